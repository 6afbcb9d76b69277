"""What runs once for each packet and subscriber: kernels, each with a reference in plain Python."""
