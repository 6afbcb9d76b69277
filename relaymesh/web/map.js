// Draws regions at their coordinates, with the links between them, into an SVG.
// In: plain regions and links. Out: nothing; `onLink(link)` is called when one is clicked.

const WIDTH = 640, HEIGHT = 330, MARGIN_X = 76, MARGIN_TOP = 70, MARGIN_BOTTOM = 70;
const NS = 'http://www.w3.org/2000/svg';

// regions: [{name, label, latitude, longitude, role: 'ingress'|'watching'|'', away: bool}]
// links: [{id, a, b, text, cut: bool, carries: null|'ab'|'ba', title}] with a and b names of regions
export function drawMap(svg, regions, links, onLink) {
  const focused = svg.contains(document.activeElement) ? document.activeElement.dataset.link : null;
  const at = project(regions);
  const drawn = links.filter((link) => at[link.a] && at[link.b]).map((link) => ({ ...link, ...curve(link, at) }));
  const taken = [...drawn.flatMap((link) => [...link.points, ...link.pill]), ...Object.values(at)];
  svg.replaceChildren(
    graticule(),
    ...drawn.map((link) => drawLink(link, onLink)),
    ...regions.map((region) => drawRegion(region, at[region.name], taken)),
  );
  if (focused) svg.querySelector(`[data-link="${CSS.escape(focused)}"]`)?.focus();
}

function el(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Mercator, fitted into the frame; the shape is kept unless the regions lie nearly on one line.
function project(regions) {
  const points = regions.map(({ name, latitude, longitude }) => ({
    name, x: longitude, y: Math.log(Math.tan(Math.PI / 4 + (latitude * Math.PI) / 360)) * (180 / Math.PI),
  }));
  const [left, right] = [Math.min(...points.map((p) => p.x)), Math.max(...points.map((p) => p.x))];
  const [low, high] = [Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y))];
  const spanX = Math.max(right - left, 1), spanY = Math.max(high - low, 1);
  const roomX = WIDTH - 2 * MARGIN_X, roomY = HEIGHT - MARGIN_TOP - MARGIN_BOTTOM;
  const scaleX = Math.min(roomX / spanX, (roomY / spanY) * 2);
  const scaleY = Math.min(roomY / spanY, scaleX * 2);
  const middleY = MARGIN_TOP + roomY / 2;
  return Object.fromEntries(points.map((p) => [p.name, {
    x: WIDTH / 2 + (p.x - (left + right) / 2) * scaleX,
    y: middleY - (p.y - (low + high) / 2) * scaleY,
  }]));
}

function graticule() {
  const lines = [];
  for (let x = 40; x < WIDTH; x += 80) lines.push(`M${x} 0V${HEIGHT}`);
  for (let y = 45; y < HEIGHT; y += 60) lines.push(`M0 ${y}H${WIDTH}`);
  return el('path', { class: 'grid', d: lines.join('') });
}

// A link bows away from the other regions, so that links which run side by side can be told apart.
function curve(link, at) {
  const from = at[link.a], to = at[link.b];
  const others = Object.entries(at).filter(([name]) => name !== link.a && name !== link.b).map(([, point]) => point);
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const normal = { x: (from.y - to.y) / length, y: (to.x - from.x) / length };
  const centre = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const lean = others.reduce((sum, p) => sum + (p.x - centre.x) * normal.x + (p.y - centre.y) * normal.y, 0);
  const bow = (lean > 0 ? -1 : 1) * Math.max(46, length * 0.3);
  const bend = { x: centre.x + normal.x * bow, y: centre.y + normal.y * bow };
  const point = (t) => ({
    x: (1 - t) ** 2 * from.x + 2 * t * (1 - t) * bend.x + t ** 2 * to.x,
    y: (1 - t) ** 2 * from.y + 2 * t * (1 - t) * bend.y + t ** 2 * to.y,
  });
  const label = point(0.5);
  return {
    label,
    d: `M${from.x} ${from.y}Q${bend.x} ${bend.y} ${to.x} ${to.y}`,
    points: Array.from({ length: 41 }, (_, i) => point(i / 40)),
    pill: [-36, -18, 0, 18, 36].flatMap((x) => [-10, 10].map((y) => ({ x: label.x + x, y: label.y + y }))),
  };
}

function drawLink(link, onLink) {
  const { d, label } = link;
  const narrow = window.innerWidth < 520;
  const classes = ['link', link.cut ? 'cut' : '', link.carries ? 'carried' : ''].join(' ');
  const width = 20 + link.text.length * (narrow ? 11 : 8.4), height = narrow ? 34 : 28;
  const group = el('g', { class: classes, tabindex: 0, role: 'button', 'data-link': link.id, 'aria-label': link.title },
    el('title', {}, link.title), el('path', { class: 'hit', d }), el('path', { class: 'wire', d }));
  if (link.carries && !link.cut) group.append(el('path', { class: `flow ${link.carries === 'ba' ? 'reverse' : ''}`, d }));
  group.append(
    el('rect', { x: label.x - width / 2, y: label.y - height / 2, width, height, rx: height / 2 }),
    el('text', { x: label.x, y: label.y + (narrow ? 7 : 5) }, link.text));
  group.addEventListener('click', () => onLink(link));
  group.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    onLink(link);
  });
  return group;
}

function drawRegion(region, { x, y }, taken) {
  const role = region.away ? 'not connected' : { ingress: 'enters here', watching: 'you watch here' }[region.role];
  const group = el('g', { class: `region ${region.role} ${region.away ? 'away' : ''}` },
    el('circle', { class: 'core', cx: x, cy: y, r: 10 }));
  if (region.role === 'watching') group.append(el('circle', { class: 'halo', cx: x, cy: y, r: 16 }));
  const line = window.innerWidth < 520 ? 21 : 17;
  const spot = freeSpot({ x, y }, Math.max(region.label.length, role ? role.length * 0.85 : 0) * line * 0.55, role ? 2 * line : line, taken);
  group.append(el('text', { x: spot.x, y: spot.y + line * 0.8 }, region.label));
  if (role) group.append(el('text', { class: 'role', x: spot.x, y: spot.y + line * 1.8 }, role));
  return group;
}

// Where a text of this size covers least of what is drawn: below, above, right or left of the region.
function freeSpot({ x, y }, width, height, taken) {
  const gap = 20;
  const spots = [
    { x, y: y + gap }, { x, y: y - gap - height },
    { x: x + gap + width / 2, y: y - height / 2 }, { x: x - gap - width / 2, y: y - height / 2 },
    { x: x + gap / 2 + width / 2, y: y + gap * 0.7 }, { x: x - gap / 2 - width / 2, y: y + gap * 0.7 },
  ];
  const covered = (spot) => taken.filter((p) => Math.abs(p.x - spot.x) < width / 2 + 5 && p.y > spot.y - 5 && p.y < spot.y + height + 5).length
    + (spot.x - width / 2 < 4 || spot.x + width / 2 > WIDTH - 4 || spot.y < 4 || spot.y + height > HEIGHT - 4 ? 100 : 0);
  return spots.reduce((best, spot) => (covered(spot) < covered(best) ? spot : best));
}
