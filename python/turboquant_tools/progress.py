"""Progress on stderr, where someone can see it."""

import tqdm


def progress_bar(total, what, unit):
    """A bar that is drawn on a terminal only, to be used in a with statement; update(1) moves it."""
    return tqdm.tqdm(total=total, desc=what, unit=f" {unit}", disable=None, leave=False)
