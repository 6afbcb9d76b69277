// The demo page: watch a stream from any region, publish a camera, see its path, cut a link.
// Reads /api/state once a second; everything on the page is drawn from that and from the player.
import * as whip from './whip.js';
import { drawMap } from './map.js';

const POLL_MS = 1000, RETRY_MS = 1500, STALL_MS = 1200, GONE_AFTER_POLLS = 3;
const byId = (id) => document.getElementById(id);

let mesh = null; // the last answer of /api/state
let known = null; // what the controller said when it last answered
const watching = { region: null, stream: null, session: null, attempt: 0, firstMs: null, frames: 0, frameAt: 0 };
const camera = { session: null, busy: false };
const pendingCuts = new Map(); // link id → what was asked for, until the state shows it

function h(tag, attributes = {}, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}
const ms = (value) => (value >= 10 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`);
const title = (region) => mesh?.demo?.titles?.[region] ?? region.split('-').map((word) => (word.length < 3 ? word.toUpperCase() : word[0].toUpperCase() + word.slice(1))).join(' ');
function setStatus(id, state, text) {
  byId(id).dataset.state = state;
  byId(id).lastElementChild.textContent = text;
}

// --- what the mesh looks like -----------------------------------------------------------------

const order = (node) => Object.keys(mesh?.demo?.titles ?? {}).indexOf(node.region);
const nodes = () => [...(known?.nodes ?? [])].sort((one, other) => order(one) - order(other));
const streams = () => known?.publications ?? [];
const nodeOf = (region) => nodes().find((node) => node.region === region);
const regionOf = (name) => nodes().find((node) => node.name === name)?.region ?? name;
const streamId = (stream) => `${stream.room}/${stream.participant}`;
const currentStream = () => streams().find((stream) => streamId(stream) === watching.stream);

function currentPath() { // node names from the ingress to where we watch
  const edge = nodeOf(watching.region), stream = currentStream();
  if (!edge || !stream) return null;
  if (stream.ingress === edge.name) return [edge.name];
  return stream.paths?.[edge.name] ?? null;
}

function measured(a, b) { // both directions of a link as the controller sees them
  const both = (known?.links ?? []).filter((link) => (link.from === a && link.to === b) || (link.from === b && link.to === a));
  const up = both.length > 0 && both.every((link) => link.up);
  return { up, rtt: Math.max(0, ...both.map((link) => link.rtt_ms ?? 0)), loss: Math.max(0, ...both.map((link) => link.loss ?? 0)) };
}

function allLinks() { // the undirected links, with what is asked of them and what is measured
  return (mesh?.links ?? []).map(({ a, b, down, delay_ms: delay }) => {
    const id = `${a}|${b}`;
    if (pendingCuts.get(id) === down) pendingCuts.delete(id);
    return { id, a, b, down, delay, pending: pendingCuts.has(id), ...measured(a, b) };
  });
}

// --- drawing ----------------------------------------------------------------------------------

function draw() {
  drawHeader();
  drawChoices();
  drawMesh();
  drawPath();
}

function drawHeader() {
  const here = nodes().filter((node) => node.connected).length, links = allLinks();
  const up = links.filter((link) => link.up && !link.down).length;
  if (!mesh?.controller) setStatus('mesh', 'bad', 'The controller does not answer; media goes on without it');
  else if (here < nodes().length || !here) setStatus('mesh', 'busy', `${here} of ${nodes().length || '?'} regions connected`);
  else setStatus('mesh', up === links.length ? 'good' : 'busy', `${here} regions · ${up} of ${links.length} links up`);
}

function drawChoices() {
  const regions = [...new Set(nodes().map((node) => node.region))];
  if (byId('regions').dataset.known !== regions.join()) {
    byId('regions').dataset.known = regions.join();
    byId('regions').replaceChildren(...regions.map((region) => h('button', { type: 'button', textContent: title(region), value: region, onclick: () => watchFrom(region) })));
    byId('entry').replaceChildren(...regions.map((region) => h('option', { value: region, textContent: title(region) })));
  }
  for (const button of byId('regions').children) button.setAttribute('aria-pressed', button.value === watching.region);
  const offered = streams().map(streamId);
  if (byId('streams').dataset.known !== offered.join()) {
    byId('streams').dataset.known = offered.join();
    byId('streams').replaceChildren(...offered.map((id) => h('option', { value: id, textContent: id.split('/')[1] })));
  }
  if (watching.stream) byId('streams').value = watching.stream;
  byId('streams-label').hidden = offered.length < 2;
  byId('publish').disabled = camera.busy || !regions.length;
}

function drawMesh() {
  const links = allLinks(), path = currentPath() ?? [], stream = currentStream();
  const step = (a, b) => path.some((node, i) => node === a && path[i + 1] === b);
  drawMap(byId('map'),
    nodes().map((node) => ({
      name: node.name, label: title(node.region), latitude: node.place?.latitude ?? 0, longitude: node.place?.longitude ?? 0, away: !node.connected,
      role: stream?.ingress === node.name ? 'ingress' : node.region === watching.region ? 'watching' : '',
    })),
    links.map((link) => ({
      ...link, cut: link.down || !link.up, carries: step(link.a, link.b) ? 'ab' : step(link.b, link.a) ? 'ba' : null,
      text: link.down ? 'cut' : link.up ? ms(link.rtt) : 'down',
      title: `${title(regionOf(link.a))} – ${title(regionOf(link.b))}: ${link.down ? 'restore this link' : 'cut this link'}`,
    })), toggle);
  if (!links.length) {
    byId('links').replaceChildren(h('li', { className: 'empty', textContent: mesh ? 'No links yet: the regions are still joining.' : 'Loading …' }));
    return;
  }
  byId('links').replaceChildren(...links.map((link) => h('li', { className: link.down || !link.up ? 'cut' : '' },
    h('span', { className: 'ends', textContent: `${title(regionOf(link.a))} – ${title(regionOf(link.b))}` }),
    h('span', { className: 'numbers', textContent: link.down ? 'cut by you' : link.up ? `RTT ${ms(link.rtt)} · loss ${(link.loss * 100).toFixed(1)} %` : 'down' }),
    h('button', { type: 'button', disabled: link.pending, textContent: link.pending ? '…' : link.down ? 'Restore' : 'Cut', onclick: () => toggle(link) }))));
}

function drawPath() {
  const path = currentPath(), line = byId('path');
  if (!path) {
    line.replaceChildren(!watching.region || !currentStream() ? '' : `No path to ${title(watching.region)} now.`);
    return;
  }
  const parts = path.flatMap((node, i) => [...(i ? [h('span', { className: 'arrow', textContent: '→' })] : []), h('b', { textContent: title(regionOf(node)) })]);
  const delay = path.slice(1).reduce((sum, node, i) => sum + measured(path[i], node).rtt / 2, 0);
  const hops = path.length - 1;
  const words = hops ? `${hops} hop${hops > 1 ? 's' : ''} · ${ms(delay)} one way` : 'it enters the mesh here';
  line.replaceChildren(...parts, h('span', { className: 'sum', textContent: words }));
}

function cover(kind, text, detail = '') { // what lies over the video: '' = nothing
  const node = byId('cover'), key = `${kind}|${text}|${detail}`;
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.hidden = !kind;
  node.replaceChildren(...(kind === 'busy' ? [h('div', { className: 'spinner' })] : []), h('div', { textContent: text }), h('small', { textContent: detail }));
}

// --- watching ---------------------------------------------------------------------------------

async function watchFrom(region, stream = watching.stream) {
  const attempt = ++watching.attempt, before = watching.session;
  Object.assign(watching, { region, stream, session: null, firstMs: null, frames: 0, frameAt: 0 });
  byId('video').srcObject = null;
  for (const id of ['first', 'decoded', 'rate', 'freezes', 'lost']) byId(id).textContent = '–';
  draw();
  if (before) await before.close();
  if (attempt === watching.attempt) await join(attempt);
}

async function join(attempt) {
  const node = nodeOf(watching.region), asked = performance.now();
  if (!node || !watching.stream) return;
  cover('busy', `Joining in ${title(watching.region)} …`);
  try {
    const path = watching.stream.split('/').map(encodeURIComponent).join('/');
    const session = await whip.play(`${node.http_url.replace(/\/$/, '')}/whep/${path}`);
    if (attempt !== watching.attempt) {
      session.close();
      return;
    }
    watching.session = session;
    byId('video').srcObject = session.stream;
    session.pc.addEventListener('connectionstatechange', () => {
      if (attempt === watching.attempt && ['failed', 'disconnected'].includes(session.pc.connectionState)) again(attempt, 'The connection was lost');
    });
    byId('video').requestVideoFrameCallback(() => {
      if (attempt !== watching.attempt) return;
      watching.firstMs = performance.now() - asked;
      watching.frameAt = performance.now();
      cover('');
    });
  } catch (error) {
    again(attempt, error.status === 404 ? 'Nobody publishes this stream now' : `${title(watching.region)}: ${error.message}`);
  }
}

function again(attempt, why) {
  if (attempt !== watching.attempt) return;
  cover('busy', why, 'Trying again …');
  setTimeout(() => attempt === watching.attempt && watchFrom(watching.region), RETRY_MS);
}

async function stats() { return whip.rawStats(watching.session?.pc); }

async function drawNumbers() {
  const video = (await stats()).find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
  if (!video) return;
  const now = performance.now(), decoded = video.framesDecoded ?? 0;
  if (decoded !== watching.frames) Object.assign(watching, { frames: decoded, frameAt: now });
  byId('first').textContent = watching.firstMs === null ? '–' : `${Math.round(watching.firstMs)} ms`;
  byId('decoded').textContent = decoded;
  byId('rate').textContent = `${Math.round(video.framesPerSecond ?? 0)} fps`;
  byId('freezes').textContent = video.freezeCount ?? 0;
  byId('lost').textContent = video.packetsLost ?? 0;
  if (!watching.frameAt) return;
  if (now - watching.frameAt < STALL_MS) cover('');
  else cover('busy', 'No media arrives', currentStream() ? 'It comes back by itself when there is a path.' : 'The publisher has left.');
}

// --- publishing and cutting ---------------------------------------------------------------------

async function togglePublish() {
  camera.busy = true;
  draw();
  try {
    if (camera.session) await stopCamera();
    else await startCamera();
  } catch (error) {
    setStatus('publishing', 'bad', error.name === 'NotAllowedError' ? 'The camera was not allowed' : error.message);
    await stopCamera(true);
  }
  camera.busy = false;
  byId('publish').textContent = camera.session ? 'Stop' : 'Publish';
  byId('entry').disabled = Boolean(camera.session);
  draw();
}

async function startCamera() {
  const region = byId('entry').value, node = nodeOf(region);
  setStatus('publishing', 'busy', 'Asking for the camera …');
  if (!navigator.mediaDevices) throw new Error('The browser gives a camera only to localhost and to https pages');
  camera.media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360, frameRate: 30 } });
  byId('self').srcObject = camera.media;
  byId('self').hidden = false;
  setStatus('publishing', 'busy', `Connecting to ${title(region)} …`);
  const room = mesh?.demo?.room ?? 'demo', name = `camera-${Math.random().toString(36).slice(2, 6)}`;
  camera.session = await whip.publish(`${node.http_url.replace(/\/$/, '')}/whip/${room}/${name}`, camera.media, { codec: 'VP8' });
  camera.session.pc.addEventListener('connectionstatechange', () => {
    if (camera.session?.pc.connectionState === 'failed') setStatus('publishing', 'bad', 'The connection was lost');
  });
  await whip.connected(camera.session.pc);
  setStatus('publishing', 'good', `Live at ${title(region)} as “${name}”: choose it above the player`);
}

async function stopCamera(keepWords = false) {
  camera.media?.getTracks().forEach((track) => track.stop());
  byId('self').srcObject = null;
  byId('self').hidden = true;
  await camera.session?.close();
  camera.session = camera.media = null;
  if (!keepWords) setStatus('publishing', '', 'Your camera is off');
}

async function toggle(link) {
  if (pendingCuts.has(link.id)) return;
  pendingCuts.set(link.id, !link.down);
  byId('problem').hidden = true;
  draw();
  try {
    const response = await fetch(`/api/links/${encodeURIComponent(link.a)}/${encodeURIComponent(link.b)}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ down: !link.down }),
    });
    if (!response.ok) throw new Error((await response.text()).slice(0, 200));
  } catch (error) {
    byId('problem').textContent = `The link was not changed: ${error.message}`;
    byId('problem').hidden = false;
  }
  pendingCuts.delete(link.id);
  await poll();
}

// --- the loop -----------------------------------------------------------------------------------

async function poll() {
  try {
    mesh = await (await fetch('/api/state')).json();
    known = mesh.controller ?? known;
  } catch {
    setStatus('mesh', 'bad', 'The demo has stopped: start it again and reload this page');
    if (!watching.frames) cover('off', 'The demo has stopped', 'Start it again with: relaymesh demo');
    return;
  }
  draw();
  chooseFirst();
}

function chooseFirst() { // the headless publisher, watched from the far end, is what a visitor sees first
  const gone = watching.stream && !currentStream();
  watching.missing = gone ? (watching.missing ?? 0) + 1 : 0;
  // A stream that is over gives way to another one, but not to the blink of an eye without it.
  if (watching.region && watching.stream && !(watching.missing > GONE_AFTER_POLLS && streams().length)) return;
  const first = streams().find((stream) => stream.participant === mesh.demo?.participant) ?? streams()[0];
  if (!first) {
    cover('busy', 'Waiting for a publisher …');
    return;
  }
  if (!nodes().length) return;
  watchFrom(watching.region ?? mesh.demo?.watch_region ?? nodes().at(-1).region, streamId(first));
}

byId('streams').onchange = (event) => watchFrom(watching.region, event.target.value);
byId('publish').onclick = togglePublish;
addEventListener('pagehide', () => { watching.session?.close(); camera.session?.close(); });
Object.assign(window, { watchFrom, stats, toggle, meshState: () => mesh, watching });
cover('busy', 'Looking for the mesh …');
drawMesh();
poll();
setInterval(poll, POLL_MS);
setInterval(drawNumbers, 500);
