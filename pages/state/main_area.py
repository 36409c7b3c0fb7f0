"""Where a run of a page draws: into the page, whatever the run before it drew into."""

from __future__ import annotations

from streamlit.delta_generator_singletons import context_dg_stack, get_default_dg_stack_value


def draw_into_the_page() -> None:
    """Forget the container of the run before, before anything is drawn.

    With `fastReruns = false` one thread runs a fragment of the sidebar and then, where a message came in its last
    moments, a page. Streamlit 1.67 forgets the fragment's container only where a run is ended by a rerun, not where it
    came to its end (runtime/scriptrunner/exec_code.py): the page would be drawn into the sidebar.
    """
    context_dg_stack.set(get_default_dg_stack_value())
