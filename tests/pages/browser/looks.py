"""What a page looks like, asked of the browser: contrast of every text, what is cut, sizes of axis text."""

LEAST_CONTRAST = 4.5  # WCAG 2, level AA
LEAST_AXIS = 11  # pixels

COLOURS = """
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = {};
  const parsed = c => known[c] ||= (() => {  // any CSS colour as r, g, b of 255 and alpha of 1
    const plain = /^rgba?\\((\\d+), (\\d+), (\\d+)(?:, ([\\d.]+))?\\)$/.exec(c);
    if (plain) return [+plain[1], +plain[2], +plain[3], plain[4] === undefined ? 1 : +plain[4]];
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  })();
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (one, two) => { const [a, b] = [light(one), light(two)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05); };
  const below = e => {  // background behind an element, opaque layers from the page up
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const c = parsed(getComputedStyle(at).backgroundColor); if (c[3]) layers.push(c); if (c[3] === 1) break;
    }
    return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255]);
  };
  const shown = e => { let o = 1; for (let at = e; at; at = at.parentElement) o *= +getComputedStyle(at).opacity;
    return o; };
"""

TEXTS = (
    """() => {"""
    + COLOURS
    + """
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), out = [];
  const off = 'script, style, noscript, canvas, [aria-hidden=true], :disabled, [aria-disabled=true], ' +
    'label:has(:disabled), [data-testid=stIconMaterial], [data-testid=stSkipToContent]';  // off: may be pale
  const judge = (words, e, colour, opacity) => {
    const ground = below(e.closest('[data-testid=stSliderThumbValue]') ? e.closest('[data-testid=stSlider]') : e);
    const top = [...parsed(colour)]; top[3] *= opacity;
    const seen = ratio(over(top, ground), ground);
    if (seen < LEAST) out.push([words.slice(0, 60), +seen.toFixed(2), e.closest('[data-testid]')?.dataset.testid]);
  };
  const visible = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true})
    && e.getBoundingClientRect().width > 1;
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement, words = node.textContent.trim();
    if (!words || !e || e.closest(off) || !visible(e)) continue;
    const style = getComputedStyle(e), svg = e instanceof SVGElement;
    const inked = ['rgb(0, 0, 0)', 'rgb(255, 255, 255)'].includes(style.fill);
    if (svg && inked && e.closest('.textpoint')) continue;  // on a map's cell: tests/figures/test_readable.py
    judge(words, e, svg ? style.fill : style.color, shown(e) * (svg ? +style.fillOpacity : 1));
  }
  for (const e of document.querySelectorAll(':is(input, textarea):placeholder-shown:enabled')) {
    const style = getComputedStyle(e, '::placeholder');
    if (e.placeholder && visible(e)) judge(e.placeholder, e, style.color, shown(e) * +style.opacity);
  }
  return out;
}""".replace("LEAST", str(LEAST_CONTRAST))
)

CUT = """() => {
  const kinds = 'h1, h2, h3, h4, h5, a, button, [data-testid=stMetric], [data-testid=stBadge], label, [role=tab], ' +
    '[role=radiogroup], [data-testid=stMultiSelectTagsContainer]';
  const all = [...document.querySelectorAll(kinds)].flatMap(e => [e, ...e.querySelectorAll('*')]);
  const menus = [...document.querySelectorAll('input[role=combobox]')]  // a run to open has a long name everywhere
    .filter(e => e.value && e.scrollWidth > e.clientWidth + 1 && !e.closest('[class*=st-key-run-to-open]'))
    .map(e => [e.value, e.scrollWidth, e.clientWidth, 'menu']);
  const seen = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
  return [...menus, ...[...new Set(all)].filter(e => seen(e)
      && e.innerText?.trim() && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1
      && getComputedStyle(e).overflowX !== 'visible'
      && !e.closest('[aria-hidden=true], [data-testid=stSkipToContent], [data-testid=stIconMaterial]'))
    .map(e => [e.innerText.trim().slice(0, 60), e.scrollWidth, e.clientWidth,
               e.closest('[data-testid]')?.dataset.testid])];
}"""

OVERLAP = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
  const words = [...plot.querySelectorAll(
      ':is(.annotation, .xtick, .ytick, .x2tick, .g-xtitle, .g-ytitle, .g-x2title, .legend, .colorbar) text')]
    .map(e => [e.textContent, e.getBoundingClientRect()]).filter(([said, box]) => said.trim() && box.width);
  return words.flatMap(([one, a], i) => words.slice(i + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 6)
    .map(([other]) => [one, other]));
})"""

ON_BARS = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
  const boxes = kind => [...plot.querySelectorAll(kind)].map(e => [e.textContent, e.getBoundingClientRect()]);
  const marks = boxes(':is(.errorbar path, .bars .point path)');
  return boxes('.annotation text').filter(([said, box]) => said.trim() && box.width).filter(([, a]) => marks.some(
    ([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0)).map(([said]) => said);
})"""

OUTSIDE = """() => {
  const main = document.querySelector('[data-testid=stMain]');
  const right = main.getBoundingClientRect().left + main.clientWidth;
  const held = e => { for (let at = e.parentElement; at && at !== main; at = at.parentElement)
    if (getComputedStyle(at).overflowX !== 'visible') return true; return false; };  // scrolls by itself
  const cut = [...main.querySelectorAll('.main-svg :is(.g-xtitle, .g-ytitle, .g-x2title, .g-y2title, .legend) text')]
    .filter(e => { const a = e.getBoundingClientRect(), b = e.closest('.js-plotly-plot').getBoundingClientRect();
      return a.width && e.checkVisibility()  // figures folded away have no room to keep to
        && (a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2);
    })
    .map(e => e.textContent);
  const wide = [...main.querySelectorAll('button, a, p, h1, h2, h3, h4, input, [data-testid=stMetric]')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > right + 1 && !held(e))
    .map(e => e.innerText?.slice(0, 40) || e.tagName);
  return [...cut, ...wide];
}"""

SIDEWAYS = """() => {
  const main = document.querySelector('[data-testid=stMain]');
  return Math.max(0, main.scrollWidth - main.clientWidth, document.documentElement.scrollWidth - innerWidth);
}"""

SMALL = """() => [...document.querySelectorAll(
    '.js-plotly-plot :is(.xtick, .ytick, .g-xtitle, .g-ytitle, .legend, .colorbar) text')]
  .filter(e => parseFloat(getComputedStyle(e).fontSize) < LEAST)
  .map(e => [e.textContent, getComputedStyle(e).fontSize])""".replace("LEAST", str(LEAST_AXIS))

SCROLLED = """() => [...document.querySelectorAll('[data-testid=stElementContainer]:has(.js-plotly-plot)')]
  .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1)
  .map(e => [e.className.match(/st-key-[\\w-]+/)?.[0], e.scrollWidth, e.clientWidth])"""

BELOW = """() => {  // where the first finding or figure ends, pixels below the top of the page; null: there is none
  const main = document.querySelector('[data-testid=stMain]');
  const first = [...main.querySelectorAll('[data-testid=stAlert], .js-plotly-plot')].find(e => e.checkVisibility());
  return first ? first.getBoundingClientRect().bottom + main.scrollTop : null;
}"""

EVERYTHING = {
    "low contrast": TEXTS,
    "cut": CUT,
    "overlap": OVERLAP,
    "on a bar or an interval": ON_BARS,
    "outside": OUTSIDE,
    "sideways": SIDEWAYS,
    "small": SMALL,
    "scrolled figures": SCROLLED,
}
