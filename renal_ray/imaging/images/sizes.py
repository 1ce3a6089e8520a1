"""What a file declares, checked before memory is taken for it."""

from math import prod

from renal_ray.problems import Code, PatientError

MOST_PIXELS = 8192  # along one axis; CT matrices end at 2048
MOST_VOXELS = 2**31
MOST_DEFLATED = 1032  # bytes that deflate makes of one at the very most


def require_sane(shape: tuple[int, ...], itemsize: int, stored: int, *, compressed: bool) -> None:
    """Refuses a volume whose header declares more than any CT series has, or than its file can hold.

    Args:
        shape: voxels along each axis.
        itemsize: bytes of a voxel.
        stored: bytes of the file from the first voxel on.
        compressed: whether they are deflated.

    Raises:
        PatientError: TOO_LARGE or FILE_TRUNCATED.
    """
    if max(shape) > MOST_PIXELS or prod(shape) > MOST_VOXELS:
        raise PatientError(Code.TOO_LARGE, f"the header declares {' x '.join(map(str, shape))} voxels, more than any CT series has; export it again")
    if prod(shape) * itemsize > stored * (MOST_DEFLATED if compressed else 1):
        raise PatientError(Code.FILE_TRUNCATED, "the file holds fewer voxels than its header declares; copy it again")
