// The page: from the results in it to what people look at. No network, no storage, no framework.

function page() {
  const main = document.querySelector('main');
  const show = (index, scroll) => {
    const result = RESULTS[index],
      cursor = makeCursor(),
      several = RESULTS.length > 1;
    const choose = (other) => {
      history.replaceState(null, '', `#run-${other + 1}`);
      show(other, false);
    };
    document.title = `${result.title || result.scenario} – ${VERDICTS[result.outcome]} – RelayMesh`;
    main.replaceChildren(
      ...[
        several ? html('p', { class: 'brand' }, 'RelayMesh') : null,
        several ? runsTable(index, choose) : null,
        several ? comparison(index, choose) : null,
        several
          ? html('hr', { style: 'border:0;border-top:1px solid var(--line);margin:44px 0 28px' })
          : null,
        header(result),
        tiles(result),
        html('div', { class: 'split' }, checks(result), mapSection(result, cursor)),
        charts(result, cursor),
        players(result),
        events(result),
        more(result),
        html(
          'footer',
          {},
          `${result.scenario}, ${result.mode}, seed ${result.seed}. Delays are one-way. Move over a chart or the slider: all follow. ` +
            'Land outlines are drawn by hand and only show where a region is.',
        ),
      ].filter(Boolean),
    );
    if (scroll) window.scrollTo(0, 0);
  };
  const wanted = /^#run-(\d+)$/.exec(location.hash);
  show(wanted ? Math.min(Math.max(Number(wanted[1]), 1), RESULTS.length) - 1 : 0, true);
}

page();
