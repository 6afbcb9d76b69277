"""A video whose every picture can be checked: each carries its number, and is known whole by that number.

A picture is a grid of 16 × 9 cells. The cells of the first row are the bits of its number, those of the last
one a hash of it. The rest have one of four grey levels, all given by the number without its last four bits:
they change together each 16 pictures. Over some of them goes noise, different in each picture, which has
a mean of nought and makes a rate like that of a camera. A picture that was decoded from a wrong reference
mixes two: its hash fails, or cells keep the level of the patterns before.
"""

from __future__ import annotations

_PATTERN = """
const COLUMNS = 16, ROWS = 9, LEVELS = [40, 104, 168, 232];
const mix = (x) => {
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b); x = Math.imul(x ^ (x >>> 16), 0x45d9f3b);
  return (x ^ (x >>> 16)) >>> 0;
};
const levelOf = (number, cell) => LEVELS[mix((number >>> 4) * 1009 + cell + 1) & 3];
const hashOf = (number) => mix(number + 7) & 0xffff;
"""

# Makes `window.markedCamera`: a stream of marked pictures and the microphone. Each *spoil*-th one is wrong.
CAMERA = (
    """() => {
window.markedCamera = async ({width, height, fps, noise, spoil}) => {
"""
    + _PATTERN
    + """
  const canvas = document.createElement('canvas');
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext('2d', {alpha: false});
  const grain = document.createElement('canvas');
  grain.width = width; grain.height = height;
  const pixels = new ImageData(width, height);
  let state = 1;
  for (let at = 0; at < pixels.data.length; at += 4) {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    const value = state >>> 31 ? 255 : 0;
    pixels.data.set([value, value, value, 255], at);
  }
  grain.getContext('2d').putImageData(pixels, 0, 0);
  const wide = width / COLUMNS, tall = height / ROWS;
  const cell = (column, row, level) => {
    context.fillStyle = `rgb(${level},${level},${level})`;
    context.fillRect(column * wide, row * tall, wide, tall);
  };
  let number = 0, track = null;
  const draw = () => {
    number = (number + 1) & 0xffff;
    for (let column = 0; column < COLUMNS; column++) {
      cell(column, 0, number >> column & 1 ? 232 : 24);
      cell(column, ROWS - 1, hashOf(number) >> column & 1 ? 232 : 24);
      const spoilt = spoil && number % spoil === 0 && column === 5 ? 16 : 0;  // of the pattern before
      for (let row = 1; row < ROWS - 1; row++) {
        cell(column, row, levelOf(number - spoilt, row * COLUMNS + column));
      }
    }
    context.globalAlpha = noise;
    const high = tall * 3, from = (mix(number) % Math.floor(tall * 6)) | 0, left = (mix(number + 1) % 64) | 0;
    context.drawImage(grain, left, from, width - 64, high, 0, tall * 3, width - 64, high);
    context.globalAlpha = 1;
    if (track) track.requestFrame();
  };
  draw();  // before anything is captured: a canvas begins black
  const stream = canvas.captureStream(0);
  [track] = stream.getVideoTracks();
  setInterval(draw, 1000 / fps);
  const sound = await navigator.mediaDevices.getUserMedia({audio: true});
  stream.addTrack(sound.getAudioTracks()[0]);
  return stream;
};
}"""
)

# Makes `window.watchMarked`, which reads each picture that a video element shows into `window.seen`.
WATCH = (
    """() => {
window.watchMarked = (video) => {
"""
    + _PATTERN
    + """
  const FINE = 4, BAD = 32;  // samples across a cell; a level off by this is the next one's
  const COARSE = 3;  // so many cells an encoder short of bits may miss where all of them change
  const canvas = document.createElement('canvas');
  canvas.width = COLUMNS * FINE; canvas.height = ROWS * FINE;
  const context = canvas.getContext('2d', {willReadFrequently: true, alpha: false});
  context.imageSmoothingQuality = 'high';
  const seen = window.seen = {pictures: 0, corrupted: [], shown: []};
  const look = (now, metadata) => {
    video.requestVideoFrameCallback(look);
    context.fillStyle = '#f0f';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    if (data[0] === 255 && data[1] === 0) return;  // the element had nothing to draw yet
    const level = (column, row) => {
      let sum = 0;
      for (const y of [1, 2]) for (const x of [1, 2]) {
        sum += data[4 * ((row * FINE + y) * canvas.width + column * FINE + x)];
      }
      return sum / 4;
    };
    let number = 0, hash = 0, wrong = 0;
    for (let column = 0; column < COLUMNS; column++) {
      if (level(column, 0) > 128) number |= 1 << column;
      if (level(column, ROWS - 1) > 128) hash |= 1 << column;
    }
    for (let row = 1; row < ROWS - 1; row++) for (let column = 0; column < COLUMNS; column++) {
      if (Math.abs(level(column, row) - levelOf(number, row * COLUMNS + column)) >= BAD) wrong++;
    }
    seen.pictures++;
    const height = metadata.height, at = performance.now();
    seen.shown.push([at, number, height]);
    if (hash !== hashOf(number) || wrong > COARSE) {
      seen.corrupted.push({at, number, height, wrong, hash: hash === hashOf(number)});
    }
  };
  video.requestVideoFrameCallback(look);
};
}"""
)
