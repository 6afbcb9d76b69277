// The mesh on a map, at one moment: which links there are, which are broken, which way the streams go.
// Regions without coordinates stand on a circle. In: a result. Nothing here is remembered between two drawings.

const rad = Math.PI / 180;
const miller = (latitude) => (1.25 * Math.log(Math.tan(Math.PI / 4 + 0.4 * latitude * rad))) / rad;

// {width, height, at: {node: {x, y}}, arc(a, b) → path, land: path | null}
function layout(nodes, width) {
  if (nodes.some(({ place }) => !place)) return circle(nodes, width);
  const longitudes = nodes.map(({ place }) => place.longitude),
    latitudes = nodes.map(({ place }) => place.latitude);
  const wide = Math.max(...longitudes) - Math.min(...longitudes);
  const tall = Math.max(...latitudes) - Math.min(...latitudes);
  let [west, east, south, north] = [-169, 191, -56, 78];
  if (wide < 180) {
    const padX = Math.max(wide * 0.16, 2.5),
      padY = Math.max(tall * 0.3, 2.5);
    [west, east] = [Math.min(...longitudes) - padX, Math.max(...longitudes) + padX];
    [south, north] = [
      Math.max(-80, Math.min(...latitudes) - padY),
      Math.min(80, Math.max(...latitudes) + padY),
    ];
  }
  let high = miller(north) - miller(south);
  const least = (east - west) * 0.42,
    most = (east - west) * 0.6; // a frame neither a strip nor a tower
  const middle = (miller(north) + miller(south)) / 2;
  let broad = east - west;
  if (high < least) high = least;
  if (high > most) {
    broad = high / 0.6;
    [west, east] = [(west + east - broad) / 2, (west + east + broad) / 2];
  }
  const scale = width / broad,
    height = Math.round(high * scale);
  const x = (longitude) => (longitude - west) * scale;
  const y = (latitude) => height / 2 - (miller(latitude) - middle) * scale;
  const at = Object.fromEntries(
    nodes.map(({ name, place }) => [name, { x: x(place.longitude), y: y(place.latitude) }]),
  );
  fan(at);
  const places = Object.fromEntries(nodes.map(({ name, place }) => [name, place]));
  const arc = (a, b) => greatCircle(places[a], places[b], at[a], at[b], x, y, [west, east]);
  const lines = [];
  const every = broad > 150 ? 30 : broad > 60 ? 10 : broad > 20 ? 5 : 2;
  for (let l = Math.ceil(west / every) * every; l < east; l += every)
    lines.push(`M${x(l).toFixed(1)} 0V${height}`);
  for (let l = -80; l <= 80; l += every)
    if (y(l) > 0 && y(l) < height) lines.push(`M0 ${y(l).toFixed(1)}H${width}`);
  return { width, height, at, arc, grid: lines.join(''), land: broad > 35 ? coast(x, y) : null };
}

// Nodes of one region would lie on each other.
function fan(at) {
  const piles = new Map();
  for (const point of Object.values(at)) {
    const key = `${Math.round(point.x)},${Math.round(point.y)}`;
    piles.set(key, [...(piles.get(key) ?? []), point]);
  }
  for (const pile of piles.values()) {
    if (pile.length > 1)
      pile.forEach((point, index) => {
        const angle = (index / pile.length) * 2 * Math.PI;
        point.x += Math.cos(angle) * 14;
        point.y += Math.sin(angle) * 14;
      });
  }
}

function circle(nodes, width) {
  const height = Math.round(Math.min(width * 0.62, 460)),
    radius = height / 2 - 46;
  const at = Object.fromEntries(
    nodes.map(({ name }, index) => {
      const angle = (index / nodes.length) * 2 * Math.PI - Math.PI / 2;
      return [
        name,
        {
          x: width / 2 + Math.cos(angle) * radius * Math.min(1.6, width / height),
          y: height / 2 + Math.sin(angle) * radius,
        },
      ];
    }),
  );
  const arc = (a, b) => `M${at[a].x} ${at[a].y}L${at[b].x} ${at[b].y}`;
  return { width, height, at, arc, grid: '', land: null };
}

function coast(x, y) {
  let path = '';
  for (const shift of [-360, 0, 360])
    for (const ring of LAND) {
      for (let index = 0; index < ring.length; index += 2) {
        path += `${index ? 'L' : 'M'}${x(ring[index] + shift).toFixed(1)} ${y(ring[index + 1]).toFixed(1)}`;
      }
      path += 'Z';
    }
  return path;
}

// The shortest way over the globe; cut where it leaves the map at one side and comes in at the other.
function greatCircle(one, other, start, end, x, y, [west, east]) {
  const vector = ({ latitude, longitude }) => [
    Math.cos(latitude * rad) * Math.cos(longitude * rad),
    Math.cos(latitude * rad) * Math.sin(longitude * rad),
    Math.sin(latitude * rad),
  ];
  const a = vector(one),
    b = vector(other);
  const angle = Math.acos(Math.min(1, Math.max(-1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
  if (angle < 0.02) return `M${start.x} ${start.y}L${end.x} ${end.y}`;
  const pieces = Math.max(8, Math.ceil(angle * 24));
  let path = '',
    before = null;
  for (let index = 0; index <= pieces; index += 1) {
    const part = index / pieces,
      p = Math.sin((1 - part) * angle),
      q = Math.sin(part * angle);
    const [u, v, w] = [0, 1, 2].map((axis) => (a[axis] * p + b[axis] * q) / Math.sin(angle));
    let longitude = Math.atan2(v, u) / rad;
    while (longitude < west) longitude += 360;
    while (longitude > east && longitude - 360 >= west) longitude -= 360;
    const latitude = Math.atan2(w, Math.hypot(u, v)) / rad;
    const jump = before !== null && Math.abs(longitude - before) > 180;
    if (jump) {
      // as far as the frame on this side, and from it on the other
      const beyond = longitude < before ? longitude + 360 : longitude - 360;
      path += `L${x(beyond).toFixed(1)} ${y(latitude).toFixed(1)}`;
      path += `M${x(longitude < before ? before - 360 : before + 360).toFixed(1)} ${y(latitude).toFixed(1)}L`;
    } else path += index ? 'L' : 'M';
    const here = index === 0 ? start : index === pieces ? end : { x: x(longitude), y: y(latitude) };
    path += `${here.x.toFixed(1)} ${here.y.toFixed(1)}`;
    before = longitude;
  }
  return path;
}

// What is so at a moment: {ways: [{stream, edge, path}], cut: Set of "a b", dead: Set of nodes, active: [window]}
function stateAt(result, at, stream) {
  const current = new Map();
  for (const way of result.paths)
    if (way.t <= at && (!stream || way.stream === stream)) current.set(`${way.stream} ${way.edge}`, way);
  const active = result.windows.filter(
    ({ start_s, end_s }) => start_s <= at && at < Math.max(end_s, start_s + 1e-6),
  );
  const cut = new Set(),
    dead = new Set();
  for (const { links, nodes } of active) {
    for (const [a, b] of links) cut.add(`${a} ${b}`);
    for (const node of nodes) dead.add(node);
  }
  return { ways: [...current.values()], cut, dead, active };
}

function drawMap(svg, result, at, stream) {
  const width = svg.clientWidth || 900,
    { nodes, links, controller } = result.topology;
  const frame = layout(nodes, width);
  svg.setAttribute('viewBox', `0 0 ${width} ${frame.height}`);
  svg.setAttribute('height', frame.height);
  const { ways, cut, dead } = stateAt(result, at, stream);
  const load = new Map();
  for (const { path } of ways)
    for (let i = 0; i + 1 < path.length; i += 1) {
      const key = `${path[i]} ${path[i + 1]}`;
      load.set(key, (load.get(key) ?? 0) + 1);
    }
  const most = Math.max(
    1,
    ...links.map(({ from, to }) => (load.get(`${from} ${to}`) ?? 0) + (load.get(`${to} ${from}`) ?? 0)),
  );
  const idle = [],
    busy = [],
    broken = [];
  for (const { from, to, delay_ms: delay } of links) {
    const there = load.get(`${from} ${to}`) ?? 0,
      back = load.get(`${to} ${from}`) ?? 0,
      d = frame.arc(from, to);
    const hit = cut.has(`${from} ${to}`) || cut.has(`${to} ${from}`);
    const title = el(
      'title',
      {},
      document.createTextNode(
        `${from} – ${to}, ${delay} ms` +
          (there || back ? `: ${there} streams →, ${back} ←` : '') +
          (hit ? ', faulty' : ''),
      ),
    );
    if (hit)
      broken.push(
        el(
          'path',
          { d, fill: 'none', style: 'stroke:var(--bad);stroke-width:2;stroke-dasharray:5 5' },
          title,
        ),
      );
    if (there || back) {
      busy.push(
        el(
          'path',
          {
            d,
            fill: 'none',
            'stroke-linecap': 'round',
            style: `stroke:var(--s1);stroke-width:${(1.6 + 3 * Math.sqrt((there + back) / most)).toFixed(1)};opacity:.85`,
          },
          title.cloneNode(true),
        ),
      );
    } else if (!hit)
      idle.push(
        el('path', { d, fill: 'none', style: 'stroke:var(--faint);stroke-width:.9;opacity:.4' }, title),
      );
  }
  const parts = [
    el('path', { d: frame.grid, fill: 'none', style: 'stroke:var(--hair);stroke-width:1' }),
    frame.land
      ? el('path', {
          d: frame.land,
          style: 'fill:var(--land);stroke:var(--coast);stroke-width:1;stroke-linejoin:round',
        })
      : '',
    ...idle,
    ...busy,
    ...broken,
  ];
  svg.replaceChildren(...parts, ...drawNodes(result, frame, dead, controller));
}

function drawNodes(result, frame, dead, controller) {
  const publishers = new Map(),
    players = new Map();
  for (const { room, publisher, ingress, player, edge } of result.players) {
    publishers.set(ingress, (publishers.get(ingress) ?? new Set()).add(`${room}/${publisher}`));
    players.set(edge, (players.get(edge) ?? new Set()).add(`${room}/${player}`));
  }
  const drawn = [],
    labels = [],
    taken = [];
  const { nodes } = result.topology;
  for (const { name } of nodes) {
    const { x, y } = frame.at[name];
    taken.push([x - 7, y - 7, x + 7, y + 7]);
  }
  const busyFirst = [...nodes].sort(
    (a, b) =>
      (players.has(b.name) || publishers.has(b.name)) - (players.has(a.name) || publishers.has(a.name)),
  );
  for (const { name, title, region } of busyFirst) {
    const { x, y } = frame.at[name],
      busy = players.has(name) || publishers.has(name),
      gone = dead.has(name);
    const told = [
      `${title === region ? name : title}`,
      `${publishers.get(name)?.size ?? 0} publish here`,
      `${players.get(name)?.size ?? 0} play here`,
      name === controller ? 'controller' : '',
      gone ? 'dead' : '',
    ]
      .filter(Boolean)
      .join(', ');
    drawn.push(
      el(
        'g',
        {},
        el('title', {}, document.createTextNode(told)),
        name === controller
          ? el('circle', { cx: x, cy: y, r: 9, fill: 'none', style: 'stroke:var(--s4);stroke-width:1.5' })
          : '',
        el('circle', {
          cx: x,
          cy: y,
          r: busy ? 5.5 : 3.5,
          style: `fill:${gone ? 'var(--sea)' : busy ? 'var(--ink)' : 'var(--faint)'};stroke:${gone ? 'var(--bad)' : 'var(--sea)'};stroke-width:2`,
        }),
        gone
          ? el('path', { d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`, style: 'stroke:var(--bad);stroke-width:2' })
          : '',
      ),
    );
    const text = title === region || nodes.filter((node) => node.region === region).length > 1 ? name : title;
    const wide = text.length * 6.4 + 2;
    const spots = [
      [x + 10, y + 4, 'start'],
      [x - 10, y + 4, 'end'],
      [x, y - 12, 'middle'],
      [x, y + 20, 'middle'],
      [x + 8, y - 8, 'start'],
      [x + 8, y + 16, 'start'],
      [x - 8, y - 8, 'end'],
      [x - 8, y + 16, 'end'],
    ];
    for (const [tx, ty, anchor] of spots) {
      const begin = anchor === 'start' ? tx : anchor === 'end' ? tx - wide : tx - wide / 2;
      const place = [begin, ty - 10, begin + wide, ty + 3];
      const inside =
        place[0] > 2 && place[2] < frame.width - 2 && place[1] > 2 && place[3] < frame.height - 2;
      if (
        !inside ||
        taken.some(
          (other) => place[0] < other[2] && other[0] < place[2] && place[1] < other[3] && other[1] < place[3],
        )
      )
        continue;
      taken.push(place);
      labels.push(
        el(
          'text',
          { x: tx, y: ty, 'text-anchor': anchor, style: busy ? 'font-weight:600' : 'fill:var(--soft)' },
          text,
        ),
      );
      break;
    }
  }
  return [...drawn, ...labels];
}
