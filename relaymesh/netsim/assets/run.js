// One run: its verdict, its key figures, what had to hold, where it went, what it was like over time.

function header(result) {
  const facts = [
    ['Mode', result.mode],
    ['Seed', result.seed],
    ['Length', clockTime(result.duration_s, result.duration_s)],
    ['Topology', result.topology.name],
    ['Players’ tracks', result.players.length],
    ...Object.entries(result.overrides).map(([key, value]) => [key, value]),
  ];
  return html(
    'header',
    {},
    html('p', { class: 'brand' }, 'RelayMesh · ' + (result.mode === 'simulate' ? 'simulation' : 'emulation')),
    html('div', { class: 'top' }, html('h1', {}, result.title || result.scenario), verdict(result)),
    result.description ? html('p', { class: 'soft' }, result.description) : null,
    html(
      'div',
      { class: 'facts' },
      ...facts.map(([key, value]) => html('span', {}, `${key} `, html('b', {}, String(value)))),
    ),
    result.outcome === 'expected-fail'
      ? html('p', { class: 'note' }, `Known not to hold yet: ${result.expected_fail}`)
      : null,
    result.outcome === 'unexpected-pass'
      ? html(
          'p',
          { class: 'note' },
          `Everything holds, though it was expected to fail: ${result.expected_fail}`,
        )
      : null,
    result.valid
      ? null
      : html('p', { class: 'note bad' }, `This run cannot be trusted: ${result.invalid_reason}`),
  );
}

function tiles(result) {
  const lost = metric(result, 'link_loss');
  const cells = [
    ['Media gap, p99', 'media_gap_ms.p99', `longest ${shown(metric(result, 'media_gap_ms.max'), 'ms')}`],
    ['Loss at players', 'residual_loss', lost === null ? '' : `${shown(lost, 'fraction')} on links`],
    ['Added delay, p99', 'added_delay_ms.p99', `median ${shown(metric(result, 'added_delay_ms.p50'), 'ms')}`],
    ['Overhead', 'overhead', 'of payload, per hop'],
    [
      'Route changes',
      'route_changes',
      metric(result, 'reroute_ms.max') === null
        ? ''
        : `rerouted in ${shown(metric(result, 'reroute_ms.max'), 'ms')}`,
    ],
    ['First frame, p95', 'first_frame_ms.p95', `median ${shown(metric(result, 'first_frame_ms.p50'), 'ms')}`],
  ];
  return html(
    'div',
    { class: 'tiles' },
    ...cells.map(([name, key, more]) =>
      html(
        'div',
        { class: 'tile' },
        html('span', {}, name),
        html('strong', {}, shown(metric(result, key), unitOf(key))),
        html('em', {}, more),
      ),
    ),
  );
}

function bound(check) {
  const unit = unitOf(check.name);
  return check.bound.replace(/[-\d.e]+/g, (number) =>
    Number.isNaN(Number(number)) ? number : shown(Number(number), unit),
  );
}

function checks(result) {
  const rows = result.checks.map((check) => {
    const [kind, sign] = check.passed ? ['yes', '✓'] : check.may_fail ? ['known', '◔'] : ['no', '✕'];
    const [name, scope] = check.name.split(' (');
    return html(
      'tr',
      {},
      html(
        'td',
        {
          class: `mark ${kind}`,
          title: check.passed ? 'holds' : check.may_fail ? 'does not hold, as expected' : 'does not hold',
        },
        sign,
      ),
      html(
        'td',
        { title: TABLES.metrics[name.split('.')[0]]?.meaning ?? '' },
        nameOf(name),
        scope ? html('span', { class: 'soft' }, ` · ${scope.replace(')', '')}`) : null,
      ),
      html(
        'td',
        { class: 'num ' + (check.passed ? '' : check.may_fail ? 'known-worse' : 'worse') },
        shown(check.value, unitOf(name)),
      ),
      html('td', { class: 'num' }, html('span', { class: 'bound' }, bound(check))),
    );
  });
  const held = result.checks.filter(({ passed }) => passed).length;
  return html(
    'section',
    {},
    html(
      'div',
      { class: 'head' },
      html('h2', {}, 'What must hold'),
      html('span', { class: 'soft' }, `${held} of ${result.checks.length}`),
    ),
    rows.length
      ? html(
          'div',
          { class: 'scroll' },
          html(
            'table',
            {},
            html(
              'thead',
              {},
              html(
                'tr',
                {},
                ...['', 'Metric', 'Value', 'Bound'].map((text, index) =>
                  html('th', { class: index > 1 ? 'num' : '' }, text),
                ),
              ),
            ),
            html('tbody', {}, ...rows),
          ),
        )
      : html('p', { class: 'none' }, 'This scenario expects nothing.'),
  );
}

function mapSection(result, cursor) {
  const svg = el('svg', { role: 'img', 'aria-label': 'Map of the mesh' });
  const slider = html('input', {
    type: 'range',
    min: 0,
    max: result.duration_s,
    step: result.duration_s / 600,
    'aria-label': 'Time',
  });
  const output = html('output'),
    what = html('span', { class: 'soft' });
  const streams = [...new Set(result.paths.map(({ stream }) => stream))].sort();
  const choice = html(
    'select',
    { 'aria-label': 'Stream' },
    html('option', { value: '' }, 'all streams'),
    ...streams.map((name) => html('option', { value: name }, name)),
  );
  const draw = () => {
    const at = cursor.at ?? start;
    drawMap(svg, result, at, choice.value);
    output.textContent = clockTime(Math.round(at * 10) / 10, result.duration_s);
    const { active } = stateAt(result, at, choice.value);
    what.textContent = active.map((window) => window.what).join('; ');
    slider.value = at;
  };
  const first = result.windows[0];
  const start = first ? Math.min(first.start_s + 3, result.duration_s) : result.duration_s * 0.6;
  slider.addEventListener('input', () => cursor.move(Number(slider.value), slider));
  choice.addEventListener('change', draw);
  let playing = null;
  const play = html(
    'button',
    {
      type: 'button',
      onclick: () => {
        if (playing) {
          clearInterval(playing);
          playing = null;
          play.textContent = 'Play';
          return;
        }
        if ((cursor.at ?? start) >= result.duration_s - 0.1) cursor.move(0, play);
        play.textContent = 'Pause';
        playing = setInterval(() => {
          const next = (cursor.at ?? start) + result.duration_s / 300;
          if (next >= result.duration_s || !play.isConnected) {
            clearInterval(playing);
            playing = null;
            play.textContent = 'Play';
          }
          cursor.move(Math.min(next, result.duration_s), play);
        }, 50);
      },
    },
    'Play',
  );
  cursor.listen(draw);
  new ResizeObserver(draw).observe(svg);
  const key = (style, extra = '') =>
    el('svg', { width: 22, height: 10 }, el('path', { d: 'M1 5H21', fill: 'none', style: style + extra }));
  return html(
    'section',
    {},
    html('div', { class: 'head' }, html('h2', {}, 'Where it went'), what),
    html(
      'div',
      { class: 'map' },
      html('div', { class: 'pan' }, svg),
      html('div', { class: 'scrub' }, play, slider, output),
    ),
    html(
      'div',
      { class: 'keys' },
      html('span', {}, key('stroke:var(--s1);stroke-width:3'), 'carries streams'),
      html('span', {}, key('stroke:var(--bad);stroke-width:2;stroke-dasharray:5 5'), 'faulty'),
      html('span', {}, key('stroke:var(--faint);stroke-width:1'), 'idle'),
      html(
        'span',
        {},
        el(
          'svg',
          { width: 16, height: 12 },
          el('circle', { cx: 8, cy: 6, r: 5, fill: 'none', style: 'stroke:var(--s4);stroke-width:1.5' }),
        ),
        'controller',
      ),
      html('label', {}, 'Show ', choice),
    ),
  );
}

const CHARTS = [
  [
    'Delay from publisher to player',
    [
      ['delay_p50_ms', 'median', 0, 'line'],
      ['delay_p99_ms', 'p99', 1, 'line'],
    ],
  ],
  [
    'Delay beyond the best path’s',
    [
      ['added_delay_p50_ms', 'median', 0, 'line'],
      ['added_delay_p99_ms', 'p99', 1, 'line'],
      ['added_delay_p999_ms', 'p99.9', 4, 'line'],
    ],
    2,
  ],
  [
    'Loss before and after repair',
    [
      ['link_loss', 'on relay links', 5, 'area'],
      ['residual_loss', 'at players', 1, 'line'],
      ['late_loss', 'too late', 3, 'line'],
    ],
    0.01,
  ],
  ['Media gaps', [['gap_ms', 'one each', 4, 'stems']], 50],
  ['Overhead on relay links', [['overhead', 'beyond payload', 2, 'area']], 0.05],
  ['Route changes', [['route_changes', 'changes', 3, 'bars']], 2],
  [
    'Media',
    [
      ['offered_mbps', 'sent', 6, 'area'],
      ['delivered_mbps', 'delivered', 0, 'line'],
    ],
  ],
  ['Players with a frozen picture', [['frozen_players', 'frozen', 1, 'area']], 2],
];

function chartFor(result, [title, wanted, top], cursor, extra = {}) {
  const lines = wanted
    .filter(([name]) => result.series[name]?.length)
    .map(([name, text, paint, kind]) => ({
      name: text,
      color: PAINT[paint],
      kind,
      points: result.series[name],
    }));
  if (!lines.length) return null;
  const unit = TABLES.series[wanted[0][0]].unit;
  return timeChart(
    {
      title,
      unit,
      lines,
      top,
      duration: result.duration_s,
      warmup: result.warmup_s,
      windows: result.windows,
      ...extra,
    },
    cursor,
  );
}

function charts(result, cursor) {
  const drawn = CHARTS.map((chart) => chartFor(result, chart, cursor)).filter(Boolean);
  return html(
    'section',
    {},
    html(
      'div',
      { class: 'head' },
      html('h2', {}, 'Over time'),
      result.windows.length ? html('span', { class: 'soft' }, 'red: a fault; grey: warm-up') : null,
    ),
    drawn.length
      ? html('div', { class: 'charts' }, ...drawn)
      : html('p', { class: 'none' }, 'No series were recorded.'),
  );
}
