// The data of the page, and what its metrics and runs are called.

const RESULTS = JSON.parse(document.getElementById('results').textContent);
const TABLES = JSON.parse(document.getElementById('tables').textContent); // metrics and series: units and meanings
const VERDICTS = {
  passed: 'Passed',
  failed: 'Failed',
  'expected-fail': 'Fails as expected',
  'unexpected-pass': 'Passes unexpectedly',
  invalid: 'Invalid run',
};
const KEY_METRICS = [
  'media_gap_ms.p99',
  'residual_loss',
  'added_delay_ms.p99',
  'route_changes',
  'first_frame_ms.p95',
  'overhead',
  'reroute_ms.max',
  'path_stretch',
];
const NAMES = {
  media_gap_ms: 'Media gap',
  excess_gap_ms: 'Gap beyond the longer way',
  residual_loss: 'Loss at players',
  link_loss: 'Loss on links',
  added_delay_ms: 'Added delay',
  overhead: 'Overhead',
  route_changes: 'Route changes',
  reroute_ms: 'Reroute',
  loops: 'Loops',
  duplicates: 'Duplicates',
  path_stretch: 'Path stretch',
  first_frame_ms: 'First frame',
  frozen_ms: 'Frozen',
  late_loss: 'Too late',
  streams_played: 'Streams played',
  delay_drift_ms: 'Drift of delay',
  longest_freeze_ms: 'Freeze',
  settle_ms: 'Settling on a layer',
  settled_layer: 'Layer settled on',
  switch_ms: 'Layer switch',
  switches: 'Layer switches',
  left_out: 'Left out on the way',
  relay_mbps: 'Rate on relay links',
  plans: 'Plans',
  sent_packets: 'Packets sent',
  delivered_packets: 'Packets delivered',
};
const PAINT = [
  'var(--s1)',
  'var(--s2)',
  'var(--s3)',
  'var(--s4)',
  'var(--s5)',
  'var(--s6)',
  'var(--s7)',
  'var(--s8)',
];
const MAX_MULTIPLES = 8;

const metric = (result, name) => {
  const [base, quantile] = name.split('.'),
    value = result.metrics[base];
  return (quantile ? value?.[quantile] : value) ?? null;
};
const unitOf = (name) => TABLES.metrics[name.split('.')[0].split(' ')[0]]?.unit ?? '';
const nameOf = (name) => {
  const [base, quantile] = name.split('.');
  const most = base.endsWith('_ms') ? 'longest' : 'most';
  return (NAMES[base] ?? base) + (quantile ? `, ${{ max: most, min: 'least' }[quantile] ?? quantile}` : '');
};
const verdict = (result) => html('span', { class: `verdict ${result.outcome}` }, VERDICTS[result.outcome]);
// What tells a run from the others on this page.
const differs = (of) => new Set(RESULTS.map(of)).size > 1;
const label = (result) =>
  [
    ...Object.entries(result.overrides)
      .filter(([key]) => differs((other) => other.overrides[key]))
      .map(([key, value]) => `${key.replace('settings.', '')} ${value}`),
    ...(differs(({ seed }) => seed) || !differs(({ overrides }) => JSON.stringify(overrides))
      ? [`seed ${result.seed}`]
      : []),
    ...(differs(({ mode }) => mode) ? [result.mode] : []),
  ].join(', ');
