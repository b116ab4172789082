"""Progress on stderr, where someone can see it."""

import tqdm


def progress_bar(total, what, unit):
    """A bar for use in a with statement, drawn on a terminal only; update(1) moves it."""
    return tqdm.tqdm(total=total, desc=what, unit=f" {unit}", disable=None, leave=False)
