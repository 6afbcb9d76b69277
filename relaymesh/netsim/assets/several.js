// Several runs: a table to choose from, and one scenario's runs side by side.

function runsTable(chosen, choose) {
  const scenarios = new Set(RESULTS.map(({ scenario }) => scenario)).size > 1;
  const keys = KEY_METRICS.slice(0, 6).filter((name) =>
    RESULTS.some((result) => metric(result, name) !== null),
  );
  const graveness = ['failed', 'invalid', 'unexpected-pass', 'expected-fail', 'passed'];
  const order = RESULTS.map((result, index) => ({ result, index }));
  if (RESULTS.length > 14)
    order.sort((a, b) => graveness.indexOf(a.result.outcome) - graveness.indexOf(b.result.outcome));
  const rows = order.map(({ result, index }) => {
    const failed = new Map(
      result.checks
        .filter(({ passed }) => !passed)
        .map(({ name, may_fail }) => [name.split(' ')[0], may_fail]),
    );
    const pick = () => choose(index);
    return html(
      'tr',
      {
        class: index === chosen ? 'choose chosen' : 'choose',
        tabindex: 0,
        onclick: pick,
        onkeydown: (event) => {
          if (event.key === 'Enter') pick();
        },
      },
      html(
        'td',
        { class: 'name' },
        scenarios ? `${result.title || result.scenario} · ${label(result)}` : label(result),
      ),
      html('td', {}, verdict(result)),
      html(
        'td',
        { class: 'num' },
        `${result.checks.filter(({ passed }) => passed).length}/${result.checks.length}`,
      ),
      ...keys.map((name) =>
        html(
          'td',
          { class: 'num ' + (failed.has(name) ? (failed.get(name) ? 'known-worse' : 'worse') : '') },
          shown(metric(result, name), unitOf(name)),
        ),
      ),
    );
  });
  return html(
    'section',
    { class: 'runs' },
    html('h2', { style: 'margin-top:0' }, `${RESULTS.length} runs`),
    html(
      'div',
      { class: 'scroll', style: RESULTS.length > 14 ? 'max-height:460px;overflow:auto' : '' },
      html(
        'table',
        {},
        html(
          'thead',
          {},
          html(
            'tr',
            {},
            html('th', {}, 'Run'),
            html('th', {}, 'Verdict'),
            html('th', { class: 'num' }, 'Holds'),
            ...keys.map((name) => html('th', { class: 'num' }, nameOf(name))),
          ),
        ),
        html('tbody', {}, ...rows),
      ),
    ),
  );
}

function comparison(chosen, choose) {
  const group = RESULTS.map((result, index) => ({ result, index })).filter(
    ({ result }) => result.scenario === RESULTS[chosen].scenario,
  );
  if (group.length < 2) return null;
  const parts = [
    html(
      'div',
      { class: 'head' },
      html('h2', {}, 'Side by side'),
      html('span', { class: 'soft' }, RESULTS[chosen].title || RESULTS[chosen].scenario),
    ),
  ];
  if (group.length > MAX_MULTIPLES) {
    parts.push(
      html(
        'div',
        { class: 'strips' },
        ...KEY_METRICS.filter((name) => group.some(({ result }) => metric(result, name) !== null)).map(
          (name) =>
            stripChart(
              nameOf(name),
              unitOf(name),
              group.map(({ result, index }) => ({
                value: metric(result, name),
                label: label(result),
                chosen: index === chosen,
                good: result.outcome !== 'failed' && result.outcome !== 'invalid',
                choose: () => choose(index),
              })),
            ),
        ),
      ),
    );
    return html('section', {}, ...parts);
  }
  const cursor = makeCursor();
  for (const chart of [CHARTS[1], CHARTS[2], CHARTS[3], CHARTS[4]]) {
    const names = chart[1].map(([name]) => name);
    const top = Math.max(
      chart[2] ?? 0,
      ...group.flatMap(({ result }) =>
        names.flatMap((name) => (result.series[name] ?? []).map(([, value]) => value ?? 0)),
      ),
    );
    const drawn = group
      .map(({ result }) => chartFor(result, [label(result), chart[1], top], cursor, { height: 110 }))
      .filter(Boolean);
    if (drawn.length > 1)
      parts.push(html('p', { class: 'row-title' }, chart[0]), html('div', { class: 'multiples' }, ...drawn));
  }
  return html('section', {}, ...parts);
}
