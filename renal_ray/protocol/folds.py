"""Folds of about equal numbers of images, with every patient whole in one of them."""

from collections.abc import Sequence


def approximate_equal_folds(image_counts: Sequence[int], n_folds: int) -> list[int]:
    """Deals patients, in the given order, to folds of approximately equal numbers of images.

    Zhou et al. 2019, "five-fold cross-validation" with approximate equalisation: fold after fold is
    filled up to the average, total / n_folds. A patient who fits wholly goes in. One who straddles
    the edge, with `space` images left, opens the next fold when he has more than 2 x space images;
    else he joins, and the fold is full. A fold that is exactly full is closed, an empty one always
    takes its first patient, the last one takes all that remain. Nobody is cut in two or left out.

    Args:
        image_counts: images of each patient, at least one each, in an order already shuffled.
        n_folds: number of folds, at least one.

    Returns:
        The fold, 0 to n_folds - 1, of each patient; never decreasing along the order.

    Raises:
        ValueError: n_folds is below one, or a patient has no image.

    Example:
        >>> approximate_equal_folds([6, 6, 3, 5, 9, 1, 7, 3], 4)
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    if n_folds < 1:
        raise ValueError(f"n_folds: {n_folds}; at least one fold is needed")
    if any(count < 1 for count in image_counts):
        raise ValueError(
            f"image_counts: {min(image_counts)}; a patient in a fold has at least one image"
        )
    # All sizes are multiplied by n_folds: the average is then the integer `capacity`, and no
    # comparison rounds.
    capacity = sum(int(count) for count in image_counts)
    folds: list[int] = []
    fold, filled = 0, 0
    for count in image_counts:
        images = int(count) * n_folds
        space = capacity - filled
        if fold < n_folds - 1 and filled > 0 and images > 2 * space:
            fold, filled = fold + 1, 0
        folds.append(fold)
        filled += images
        if fold < n_folds - 1 and filled >= capacity:
            fold, filled = fold + 1, 0
    return folds
