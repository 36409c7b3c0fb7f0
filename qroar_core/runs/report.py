"""(written when the figures exist)"""


def report_html(manifest, diagnosis, search, scales, evaluation) -> str:
    raise NotImplementedError
