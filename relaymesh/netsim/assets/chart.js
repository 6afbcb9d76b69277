// Small charts over time, drawn as SVG. All charts of a page share one cursor (a time), so that what
// happened together is read together. Nothing here knows what a run is.

const NS = 'http://www.w3.org/2000/svg';

function el(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class') node.className = value;
    else if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// --- numbers ----------------------------------------------------------------------------------------

function trimmed(value, digits) {
  return value
    .toFixed(digits)
    .replace(/(\.\d*?)0+$/, '$1')
    .replace(/\.$/, '');
}

function significant(value) {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 100) return Math.round(value).toLocaleString('en-US').replaceAll(',', '\u202f');
  return trimmed(value, size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 2 : 3);
}

// A value with its unit, as people write it: 0.0312 of "fraction" is 3.1 %.
function shown(value, unit) {
  if (value === null || value === undefined) return '–';
  if (unit === 'fraction') {
    const percent = value * 100,
      size = Math.abs(percent);
    if (size > 0 && size < 0.001) return '< 0.001 %';
    return `${size >= 10 ? trimmed(percent, 1) : size >= 0.1 ? trimmed(percent, 2) : trimmed(percent, 3)} %`;
  }
  if (unit === 'ms' && Math.abs(value) >= 10000) return `${trimmed(value / 1000, 1)} s`;
  if (unit === 'count') return significant(value);
  return `${significant(value)} ${unit}`;
}

function clockTime(seconds, duration) {
  if (duration < 180) return `${trimmed(seconds, seconds % 1 && duration < 30 ? 1 : 0)} s`;
  if (duration < 7200)
    return `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, '0')}`;
  return `${trimmed(seconds / 3600, 1)} h`;
}

function niceStep(span, count, steps = [1, 2, 2.5, 5, 10]) {
  const rough = span / count,
    power = 10 ** Math.floor(Math.log10(rough));
  return power * steps.find((step) => step * power >= rough * 0.999);
}

function ticks(top, count) {
  const step = niceStep(top, count),
    found = [];
  for (let index = 0; index * step <= top * 1.0001; index += 1) found.push(index * step);
  return found;
}

function timeTicks(duration, count) {
  const steps = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  const step = steps.find((candidate) => duration / candidate <= count) ?? 28800;
  const found = [];
  for (let at = 0; at <= duration + 1e-9; at += step) found.push(at);
  return found;
}

// --- the shared cursor ------------------------------------------------------------------------------

function makeCursor() {
  const listeners = new Set();
  return {
    at: null,
    listen(listener) {
      listeners.add(listener);
    },
    move(at, from) {
      this.at = at;
      for (const listener of listeners) listener(at, from);
    },
  };
}

function valueAt(points, at) {
  let low = 0,
    high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= at) low = middle + 1;
    else high = middle;
  }
  return low ? points[low - 1][1] : null;
}

// --- one chart --------------------------------------------------------------------------------------

// options: {title, unit, duration, warmup, windows: [{start_s, end_s, what}], height, top (least top of the y axis),
//   lines: [{name, color, points: [[t, value]], kind: 'line'|'area'|'stems'|'bars'}], legend: bool}
function timeChart(options, cursor) {
  const { title, unit, lines, height = 150, legend = true } = options;
  const values = lines.map(({ name, color, kind }) => {
    const value = html('b');
    return {
      value,
      node: html(
        'span',
        {},
        html('i', { style: `background:${color}` }),
        name,
        kind === 'stems' ? null : value,
      ),
    };
  });
  const head = html('div', { class: 'legend' }, ...(legend ? values.map(({ node }) => node) : []));
  const svg = el('svg', { role: 'img', 'aria-label': title, height });
  const box = html('div', { class: 'chart' }, html('h3', {}, title), head, svg);
  let frame = null;
  const draw = () => {
    const width = svg.clientWidth || 500;
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    frame = drawChart(svg, options, width, height);
    mark(cursor.at);
  };
  const mark = (at) => {
    if (!frame) return;
    frame.cursor.setAttribute('visibility', at === null ? 'hidden' : 'visible');
    if (at !== null) for (const key of ['x1', 'x2']) frame.cursor.setAttribute(key, frame.x(at));
    lines.forEach(({ points, kind }, index) => {
      if (kind !== 'stems')
        values[index].value.textContent = at === null ? '' : shown(valueAt(points, at), unit);
    });
  };
  const follow = (event) => {
    const bounds = svg.getBoundingClientRect();
    cursor.move(Math.min(options.duration, Math.max(0, frame.time(event.clientX - bounds.left))), box);
  };
  svg.addEventListener('pointermove', follow);
  svg.addEventListener('pointerdown', follow);
  cursor.listen(mark);
  new ResizeObserver(draw).observe(svg);
  return box;
}

let clips = 0;

function drawChart(svg, options, width, height) {
  const { unit, duration, warmup = 0, windows = [], lines } = options;
  const left = 46,
    right = 6,
    above = 8,
    below = 20;
  // What the warm-up brings must not make the rest small: it may leave the frame.
  const tallest = (from) =>
    Math.max(
      0,
      ...lines.flatMap(({ points }) => points.filter(([at]) => at > from).map(([, value]) => value ?? 0)),
    );
  const most = Math.max(options.top ?? 0, tallest(warmup) || tallest(0));
  const steps = ticks((most || 1) * 1.04, height > 120 ? 4 : 2);
  const top = Math.max((most || 1) * 1.04, steps.at(-1));
  const x = (at) => left + (at / duration) * (width - left - right);
  const y = (value) => height - below - (value / top) * (height - above - below);
  const floor = y(0);
  const parts = [];
  if (warmup)
    parts.push(
      el('rect', { class: 'warmup', x: x(0), y: above, width: x(warmup) - x(0), height: floor - above }),
    );
  for (const { start_s, end_s, what } of windows) {
    parts.push(
      el(
        'rect',
        {
          class: 'window',
          x: x(start_s),
          y: above,
          width: Math.max(1, x(end_s) - x(start_s)),
          height: floor - above,
        },
        el('title', {}, document.createTextNode(what)),
      ),
      el('line', { class: 'window-edge', x1: x(start_s), x2: x(start_s), y1: above, y2: floor }),
    );
  }
  for (const step of steps) {
    parts.push(
      el('line', {
        class: step ? 'gridline' : 'axis',
        x1: left,
        x2: width - right,
        y1: y(step),
        y2: y(step),
      }),
    );
    parts.push(el('text', { x: left - 6, y: y(step) + 4, 'text-anchor': 'end' }, shown(step, unit)));
  }
  for (const at of timeTicks(duration, Math.max(2, Math.floor(width / 70)))) {
    const anchor = x(at) > width - 16 ? 'end' : at ? 'middle' : 'start';
    parts.push(el('text', { x: x(at), y: height - 4, 'text-anchor': anchor }, clockTime(at, duration)));
  }
  const clip = `clip-${(clips += 1)}`;
  parts.push(
    el(
      'clipPath',
      { id: clip },
      el('rect', { x: left, y: above - 4, width: width - left, height: floor - above + 5 }),
    ),
  );
  parts.push(
    el('g', { 'clip-path': `url(#${clip})` }, ...lines.flatMap((line) => drawLine(line, x, y, floor, width))),
  );
  const cursor = el('line', { class: 'cursor', y1: above, y2: floor, visibility: 'hidden' });
  svg.replaceChildren(el('rect', { width, height, fill: 'transparent' }), ...parts, cursor);
  return { x, cursor, time: (at) => ((at - left) / (width - left - right)) * duration };
}

function drawLine({ points, color, kind = 'line' }, x, y, floor, width) {
  const paint = `stroke:${color}`;
  if (kind === 'stems') {
    return points
      .filter(([, value]) => value !== null)
      .flatMap(([at, value]) => [
        el('line', {
          x1: x(at),
          x2: x(at),
          y1: floor,
          y2: y(value),
          style: `${paint};stroke-width:1.5;opacity:.55`,
        }),
        el('circle', { cx: x(at), cy: y(value), r: 2.6, style: `fill:${color}` }),
      ]);
  }
  if (kind === 'bars') {
    const wide = Math.max(1.5, Math.min(8, (width / Math.max(points.length, 1)) * 0.7));
    return points
      .filter(([, value]) => value)
      .map(([at, value]) =>
        el('rect', {
          x: x(at) - wide / 2,
          width: wide,
          y: y(value),
          height: floor - y(value),
          rx: 1,
          style: `fill:${color}`,
        }),
      );
  }
  let path = '',
    open = false,
    first = null,
    last = null;
  for (const [at, value] of points) {
    if (value === null) {
      open = false;
      continue;
    }
    path += `${open ? 'L' : 'M'}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    open = true;
    first ??= at;
    last = at;
  }
  const drawn = [el('path', { d: path, style: `${paint};fill:none;stroke-width:1.7;stroke-linejoin:round` })];
  if (kind === 'area' && first !== null) {
    const area = `${path}L${x(last).toFixed(1)} ${floor}L${x(first).toFixed(1)} ${floor}Z`;
    drawn.unshift(el('path', { d: area, style: `fill:${color};opacity:.14` }));
  }
  return drawn;
}

// One metric over many runs: a dot for each. runs: [{value, good, label, chosen, choose}]
function stripChart(title, unit, runs) {
  const svg = el('svg', { role: 'img', 'aria-label': title, height: 54 });
  const box = html('div', { class: 'chart' }, html('h3', {}, title), svg);
  const draw = () => {
    const width = svg.clientWidth || 320,
      left = 8,
      right = 12;
    const known = runs.filter(({ value }) => value !== null);
    const top = Math.max(...known.map(({ value }) => value), 0) * 1.04 || 1;
    const x = (value) => left + (value / top) * (width - left - right);
    const stacks = new Map();
    const dots = known.map(({ value, good, label, chosen, choose }) => {
      const slot = Math.round(x(value) / 8),
        level = stacks.get(slot) ?? 0;
      stacks.set(slot, level + 1);
      const dot = el(
        'circle',
        {
          cx: x(value),
          cy: 30 - Math.min(level, 3) * 7,
          r: chosen ? 5 : 3.6,
          style: `fill:${good ? 'var(--s1)' : 'var(--bad)'};opacity:${chosen ? 1 : 0.6};cursor:pointer`,
        },
        el('title', {}, document.createTextNode(`${label}: ${shown(value, unit)}`)),
      );
      dot.addEventListener('click', choose);
      return dot;
    });
    svg.setAttribute('viewBox', `0 0 ${width} 54`);
    svg.replaceChildren(
      el('line', { class: 'axis', x1: left, x2: width - right, y1: 36, y2: 36 }),
      ...ticks(top, 4).map((step) =>
        el('text', { x: x(step), y: 50, 'text-anchor': step ? 'middle' : 'start' }, shown(step, unit)),
      ),
      ...dots,
    );
  };
  new ResizeObserver(draw).observe(svg);
  return box;
}
