// One run, in tables: players, what happened, all metrics.

function sortable(columns, rows, least) {
  const body = html('tbody'),
    more = html('button', {
      type: 'button',
      onclick: () => {
        all = true;
        fill();
      },
    });
  let by = columns.findIndex(({ first }) => first),
    down = true,
    all = false;
  const fill = () => {
    const value = columns[by].value;
    const order = [...rows].sort((a, b) => {
      const [p, q] = [value(a), value(b)];
      if (p === null || q === null) return (p === null) - (q === null);
      return (p < q ? -1 : p > q ? 1 : 0) * (down ? -1 : 1);
    });
    const kept = all ? order : order.slice(0, least);
    body.replaceChildren(
      ...kept.map((row) =>
        html(
          'tr',
          {},
          ...columns.map(({ value: of, show, num }) =>
            html('td', { class: num ? 'num' : '' }, show ? show(of(row)) : of(row)),
          ),
        ),
      ),
    );
    more.hidden = kept.length === rows.length;
    more.textContent = `Show all ${rows.length}`;
    heads.forEach((head, index) =>
      head.setAttribute('aria-sort', index === by ? (down ? 'descending' : 'ascending') : 'none'),
    );
  };
  const heads = columns.map(({ title, num, hint }, index) =>
    html(
      'th',
      { class: num ? 'num' : '', title: hint ?? '' },
      html(
        'button',
        {
          type: 'button',
          onclick: () => {
            down = by === index ? !down : Boolean(num);
            by = index;
            fill();
          },
        },
        title,
      ),
    ),
  );
  fill();
  const box = html(
    'div',
    {},
    html('div', { class: 'scroll' }, html('table', {}, html('thead', {}, html('tr', {}, ...heads)), body)),
  );
  more.style.cssText =
    'margin-top:10px;font:inherit;font-size:13px;color:var(--s1);background:none;border:0;padding:0;cursor:pointer';
  box.append(more);
  return box;
}

function players(result) {
  if (!result.players.length) return null;
  const text = (title, of, more = {}) => ({ title, value: of, ...more });
  const number = (title, of, unit, more = {}) => ({
    title,
    value: of,
    show: (value) => shown(value, unit),
    num: true,
    ...more,
  });
  const worst = (row) => {
    const gaps = row.gaps_ms.filter((gap) => gap !== null);
    return gaps.length ? Math.max(...gaps) : null;
  };
  return html(
    'section',
    { class: 'players' },
    html('h2', {}, 'Players'),
    sortable(
      [
        text('Player', (row) => row.player),
        text('plays', (row) => `${row.publisher} · ${row.kind}`),
        text('Way', (row) => (row.ingress === row.edge ? row.edge : `${row.ingress} → ${row.edge}`)),
        number('Gap', worst, 'ms', { first: true, hint: TABLES.metrics.media_gap_ms.meaning }),
        number('Lost', (row) => (row.sent ? row.lost / row.sent : null), 'fraction', {
          hint: TABLES.metrics.residual_loss.meaning,
        }),
        number('Late', (row) => (row.sent ? row.late / row.sent : null), 'fraction'),
        number('Frozen', (row) => (row.kind === 'video' ? row.frozen_ms : null), 'ms'),
        number('First frame', (row) => row.first_frame_ms, 'ms'),
        number('Delay p50', (row) => row.delay_ms.p50 ?? null, 'ms'),
        number('Added p99', (row) => row.added_delay_ms.p99 ?? null, 'ms'),
        number('Packets', (row) => row.sent, 'count'),
      ],
      result.players,
      12,
    ),
  );
}

// Faults as they were told, and the paths that changed, those of one moment in one line.
function happenings(result) {
  const ways = new Map(),
    moments = new Map();
  for (const { t, stream, edge, path } of [...result.paths].sort((a, b) => a.t - b.t)) {
    const key = `${stream} ${edge}`,
      before = ways.get(key);
    ways.set(key, path);
    if (!before?.length || before.join() === path.join()) continue;
    const moment = moments.get(t.toFixed(1)) ?? moments.set(t.toFixed(1), { t, paths: [] }).get(t.toFixed(1));
    moment.paths.push({ stream, before, path });
  }
  const routes = [...moments.values()].map(({ t, paths }) => {
    const { stream, before, path } = paths[0];
    const told = `${stream}: ${before.join(' → ') || 'no way'}, now ${path.join(' → ') || 'no way'}`;
    return {
      t,
      kind: 'route',
      what: paths.length > 1 ? `${paths.length} paths change, one of them ${told}` : told,
    };
  });
  return [...result.events, ...routes].sort((a, b) => a.t - b.t);
}

function events(result) {
  const all = happenings(result),
    joins = all.filter(({ kind }) => kind === 'join').length;
  if (!all.length) return null;
  const body = html('tbody'),
    box = html('input', { type: 'checkbox' });
  box.checked = joins === all.length || joins < 12;
  const fill = () =>
    body.replaceChildren(
      ...all
        .filter(({ kind }) => box.checked || kind !== 'join')
        .slice(0, 2000)
        .map(({ t, what, kind }) =>
          html('tr', { class: kind }, html('td', {}, `${t.toFixed(2)} s`), html('td', {}, what)),
        ),
    );
  box.addEventListener('change', fill);
  fill();
  return html(
    'section',
    {},
    html(
      'div',
      { class: 'head' },
      html('h2', {}, 'What happened'),
      joins && joins < all.length
        ? html('label', { class: 'soft' }, box, ` with ${joins} joins and leaves`)
        : null,
    ),
    html('div', { class: 'events' }, html('table', {}, body)),
  );
}

function more(result) {
  return html(
    'section',
    {},
    result.replay
      ? html(
          'p',
          { style: 'margin-top:32px' },
          'The same run again: ',
          html('code', { class: 'command' }, result.replay),
        )
      : null,
    html(
      'details',
      {},
      html('summary', {}, 'All metrics, and what they mean'),
      html(
        'div',
        { class: 'scroll' },
        html(
          'table',
          {},
          html(
            'tbody',
            {},
            ...Object.entries(TABLES.metrics).map(([name, { meaning, unit }]) => {
              const value = result.metrics[name];
              const text =
                value !== null && typeof value === 'object'
                  ? Object.entries(value)
                      .map(([key, part]) => `${key} ${shown(part, unit)}`)
                      .join(', ')
                  : shown(value, unit);
              return html(
                'tr',
                {},
                html('td', {}, html('code', {}, name)),
                html('td', { class: 'num', style: 'white-space:normal;min-width:130px' }, text),
                html('td', { class: 'soft' }, meaning),
              );
            }),
          ),
        ),
      ),
      html('p', { class: 'soft' }, 'Trace ', html('code', {}, String(result.metrics.trace_sha256 ?? '–'))),
    ),
  );
}
