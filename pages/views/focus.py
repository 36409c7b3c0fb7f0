"""Where the keyboard's focus goes when what held it goes: to the heading above, else to the title of the page.

A button that starts a job is switched off or gone a moment later, a popover closes, a page changes. The browser then
takes the focus away, and the next Tab starts at the top of the menu. Streamlit has no word for that, so a script looks.

A button at the foot of a page that puts another text above itself (the next step of Learn) leaves the browser at the
foot of that text. The same script goes to the heading of the new text, as a link would.
"""

from __future__ import annotations

from streamlit.delta_generator_singletons import get_dg_singleton_instance

ONWARD = "onward"  # key of a button behind a text, which puts another text in its place
LOOK = 200  # milliseconds between two looks; lost at two in a row, because Streamlit puts some focus back by itself
SCRIPT = """
(() => {
  if (window.qroarFocus) return;  // the element is drawn anew now and then
  let last = null, above = [], lost = false, left = null;
  const there = e => e.isConnected && e.checkVisibility();
  const headings = () => [...document.querySelectorAll('[data-testid=stMain] :is(h1, h2, h3, h4)')].filter(there);
  document.addEventListener('focusin', event => {
    last = event.target;
    const follows = h => h.compareDocumentPosition(last) & Node.DOCUMENT_POSITION_FOLLOWING;
    above = last.closest('[data-testid=stMain]') ? headings().filter(follows).reverse() : [];
  });
  document.addEventListener('pointerdown', () => { last = null; }, true);  // a click beside everything wants no focus
  const first = () => document.querySelector('[data-testid=stMain] h2');
  document.addEventListener('click', event => {
    if (event.target.closest('.st-key-ONWARD button')) left = first()?.innerText;
  }, true);
  const look = () => {
    if (left && first() && first().innerText !== left) {
      left = null;
      first().tabIndex = -1;
      first().focus();
      first().scrollIntoView();
    }
    const held = document.activeElement !== document.body;
    if (held || !last || (there(last) && !last.disabled)) { lost = false; return; }
    if (!lost) { lost = true; return; }
    const heading = above.find(there) || headings()[0];
    if (!heading) return;
    heading.tabIndex = -1;
    heading.focus({preventScroll: true});
  };
  window.qroarFocus = setInterval(look, LOOK);
})();
""".replace("LOOK", str(LOOK)).replace("ONWARD", ONWARD)


def keep_focus() -> None:
    """Put the script into the page, where it takes no room. app.py does so at every run.

    It is the one text that is sent to be run, and nothing foreign is in it; the browser runs it because its hash stands
    in the Content-Security-Policy (pages/server/guard.py).
    """
    get_dg_singleton_instance().event_dg.html(f"<script>{SCRIPT}</script>", unsafe_allow_javascript=True)
