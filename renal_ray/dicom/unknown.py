"""Elements that arrive as UN, as those of 64 KiB or more do in explicit VR (PS3.5, 6.2.2)."""

from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.hooks import hooks, raw_element_vr


def read_as_known() -> None:
    """Lets pydicom read long elements that arrive as UN by the data dictionary, like short ones."""
    hooks.register_callback("raw_element_vr", _known_vr)


def _known_vr(
    raw: RawDataElement, data: dict[str, Any], *, ds: Dataset | None = None, **options: Any
) -> None:
    raw_element_vr(raw, data, ds=ds, **options)
    if data["VR"] == "UN" and not raw.tag.is_private:
        try:
            known = dictionary_VR(raw.tag)
        except KeyError:
            return
        if " or " not in known:  # pixels are bytes in any case
            data["VR"] = known
