"""``python -m relaymesh`` is the console script."""

from relaymesh.cli.main import main

if __name__ == "__main__":
    main()
