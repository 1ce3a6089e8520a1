"""Tables of labels as spreadsheets and programs write them: read as they are meant, or refused with
the true cause."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renal_ray.cohort.manifest import (
    LABEL_COLUMNS,
    normal_id,
    read_manifest,
    read_table,
    refuse_duplicates,
)
from renal_ray.problems import StudyError


def read(folder, data):
    path = folder / "labels.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    table = read_table(path, required=("patient_id", "label"), known=LABEL_COLUMNS)
    refuse_duplicates(table, path)
    return table


def refusal(folder, data):
    with pytest.raises(StudyError) as caught:
        read(folder, data)
    assert str(caught.value).startswith(f"{folder / 'labels.csv'}: ")
    return str(caught.value)


TWO = {"007": 0, "008": 1}


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"\xef\xbb\xbfpatient_id , label\r\n 007 ,Benign \r\n008, MALIGNANT\r\n", TWO),
        ("patient_id;label\r\n007;benign\r\n008;malignant\r\n", TWO),
        ("patient_id|label\n007|0\n008|1\n", TWO),
        ("sep=;\r\npatient_id;label\r\n007;0\r\n008;1\r\n", TWO),
        ("sep=,\r\npatient_id,label\r\n007,0\r\n008,1\r\n", TWO),
        ('"sep=;"\npatient_id;label\n007;0\n008;1\n', TWO),
        ("\ufeffSEP=;;\npatient_id;label\n007;0\n008;1\n", TWO),
        ("sep=\t\npatient_id\tlabel\n007\t0\n008\t1\n", TWO),
        ("sep=~\npatient_id~label\n007~0\n008~1\n", TWO),
        ("patient_id\tlabel\r\n007\tbenign\r\n008\tmalignant\r\n".encode("utf-16"), TWO),
        ("\ufeffpatient_id;label\r\n007;0\r\n008;1\r\n".encode("utf-16-be"), TWO),
        ("patient_id,label\r007,benign\r008,malignant\r", TWO),
        ("patient_id,label\n\n007,0\n,,\n008,1\n,,,\n\u00a0,\u200b\n\n", TWO),
        (";;;\n\npatient_id;label;;\n007;0;;\n008;1\n;;;\n", TWO),
        ("patient_id,label\n007,0,\n008,1,,\n", TWO),
        (",patient_id,label\n,007,0\n,008,1\n", TWO),
        ("\u00a0Patient_ID,LABEL\u200b\n\u00a0007\u00a0,0\n\u200b008,1\n", TWO),
        ("PatientID,label\n007,0\n008,1\n", TWO),
        ("patient id;Label\n007;0\n008;1\n", TWO),
        ("Patient-Id;label\n007;0\n008;1\n", TWO),
        ('patient_id,label\n="007",0\n"=""008""",1\n', TWO),
        ('patient_id,label\n007,"0,0"\n008,1.00\n', TWO),
        ("patient_id;label\n007;0,0\n008;1,0\n", TWO),
        ("patient_id,label\n007,FALSE\n008,True\n", TWO),
        ("patient_id,label\n\uff10\uff10\uff17,\uff10\n008,1\n", TWO),
        ("patient_id,label\nJu\u0308rgen,0\n", {"J\u00fcrgen": 0}),
        ('patient_id,label\n"a,b",1\n"c;d",0\n"e ""f""",0\n', {"a,b": 1, "c;d": 0, 'e "f"': 0}),
        ("patient_id,label,max diameter (mm),Sex\n007,0,,M\n008,1,3,f\n", TWO),
        ("patient_id,label,age,max_diameter_mm\n007,0\n008,1,3\n", TWO),
    ],
)
def test_as_spreadsheets_write_it(tmp_path, data, labels):
    table = read(tmp_path, data)
    assert dict(zip(table["patient_id"], table["label"], strict=True)) == labels


@pytest.mark.parametrize(
    "data",
    [
        "patient_id;label;age;max_diameter_mm\r\n007;benign;63,5;12,4\r\n008;malignant;61,0;\r\n",
        'patient_id,label,age,max_diameter_mm\r\n007,benign,"63,5","12,4"\r\n008,malignant,61,\r\n',
        "patient_id\tlabel\tage\tmax_diameter_mm\n007\t0\t63,5\t1,24E+01\n008\t1\t61\t\n",
        "patient_id,label,age,max_diameter_mm\n007,0,63.50,1.24e1\n008,1,61.\n",
        "patient_id;label;age;max_diameter_mm\n007;0;\uff16\uff13,\uff15;12,400\n008;1;\u00a061\u00a0;\n",
    ],
)
def test_decimal_commas(tmp_path, data):
    table = read(tmp_path, data)
    assert table["age"].tolist() == [63.5, 61.0]
    assert table["max_diameter_mm"].iloc[0] == 12.4
    assert table["max_diameter_mm"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "patient_id,label,age\n007,benign,63,5\n008,malignant,61,0\n",
            ["line 2", "decimal commas", '"63,5"', "semicolons"],
        ),
        (
            "patient_id,label,age,max_diameter_mm\n007,benign,63,5,\n",
            ["line 2", "decimal commas"],
        ),  # else 5 mm
        (
            "patient_id,label,age\n007,1,0,\n",
            ["line 2", "decimal commas"],
        ),  # else malignant and newborn
        (
            "patient_id;label;age\n007;0;1;2\n",
            ["line 2", "more cells (4)", "(3)", "surplus semicolons"],
        ),
        ("patient_id;label,age\n007;0,3\n", ["commas and semicolons", "cannot be told"]),
        ("sep=,\npatient_id;label\n007;0\n", ["first line", "','", "semicolons"]),
        ('"patient_id,label"\n"007,0"\n', ["single cell in quotes"]),
        ("patient_id,label\n007;0\n", ["line 2", "separated by semicolons, the header by commas"]),
        ("patient_id\n007\n", ["['label']", "missing"]),
        ("Patient_ID,patient id,label\n007,007,0\n", ["'Patient_ID'", "'patient id'", "one name"]),
        ("patient_id,label,label\n007,0,1\n", ["one name"]),
        (
            "patient_id,label,scaner\n007,0,S\n",
            ["unknown columns ['scaner']", "is 'scaner' scanner?"],
        ),
        ("Patient,label\n007,0\n", ["unknown columns ['Patient']", "is 'Patient' patient_id?"]),
        (",patient_id,label\n0,007,0\n", ["column 1 has no name"]),
        ("patient_id,label\n007,gutartig\n", ["line 2", "'gutartig'", "0, 1, benign, malignant"]),
        ("patient_id,label\n007,1\n008,2\n", ["line 3", "'2'"]),
        ("patient_id,label\n007,B\n", ["line 2", "'B'"]),
        ("patient_id,label\n007,11.0\n", ["line 2", "'11.0'"]),
        ("sep=;\n\npatient_id;label\n007;1\n008;2\n", ["line 5", "'2'"]),
        ('patient_id,label,histology\n007,1,"clear\ncell"\n\n008,2,\n', ["line 5", "'2'"]),
        ("patient_id,label\r007,1\r008,2\r", ["line 3", "'2'"]),
        (
            "patient_id,label\n007,0\n007 ,0\n",
            ["patient_id 007", "lines [2, 3]", "one row a patient"],
        ),
        ("patient_id,label\n\n007,0\n\u200b007,0\n", ["patient_id 007", "lines [3, 4]"]),
        ("patient_id,label\nJ\u00fc,0\nx,0\nJu\u0308,0\n", ["lines [2, 4]", "one row a patient"]),
        (
            "patient_id,label\nkits-1,0\nx,0\nKiTS-1,1\n",
            ["kits-1, KiTS-1", "lines [2, 4]", "case alone"],
        ),
        (
            "patient_id,label\n007,0\n1.23E+05,1\n",
            ["line 3", "spreadsheet", "patient_id", "column as text"],
        ),
        ("patient_id;label\n1,23E+15;1\n", ["line 2", "spreadsheet"]),
        ("patient_id,label\n#NAME?,1\n", ["line 2", "spreadsheet"]),
        ("patient_id,label\n########,1\n", ["line 2", "spreadsheet"]),
        ("patient_id,label\n=A2&B2,1\n", ["line 2", "spreadsheet"]),
        ("patient_id,label\n'007,1\n", ["line 2", "spreadsheet"]),
        ("patient_id,label\n7.0,1\n8.0,0\n", ["every patient_id", "as text"]),
        ("patient_id,label\n\u200b,1\n", ["line 2", "empty"]),
        ("patient_id,label\n\uff0fetc,1\n", ["line 2", "slash"]),
        ('patient_id,label\n007,0\n"008,1\n009,1\n', ["line 3", "quotation mark"]),
        ('patient_id,label\n"007"x,0\n', ["line 2", "quotation mark"]),
        (
            "patient_id,label\n007,0\nJ\u00fcrgen,1\n".encode("cp1252"),
            ["line 3", "not in UTF-8", "CSV UTF-8"],
        ),
        ("patient_id\tlabel\n007\t0\n".encode("utf-16-le"), ["UTF-16 without a byte order mark"]),
        (b"PK\x03\x04 and so on", ["workbook"]),
        (b"", ["['label', 'patient_id']", "missing"]),
        ("patient_id;label\n;\n", ["no patients"]),
        ("patient_id,label,age\n007,0,1.234.5\n", ["line 2", "'1.234.5'"]),
        ("patient_id;label;age\n007;0;1.234,5\n", ["line 2", "'1.234,5'"]),
    ],
)
def test_refused_by_its_cause(tmp_path, data, words):
    message = refusal(tmp_path, data)
    assert all(word in message for word in words), message


def test_a_changed_series_key_is_refused(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(
        "patient_id,label,image,mask,series\np,1,i,m,1234567e9012\nq,1,i,m,1.23E+71\n",
        encoding="utf-8",
    )
    with pytest.raises(StudyError, match=r"line 3: a spreadsheet changed series"):
        read_manifest(path)


def test_hidden_ids_stay_hidden(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("patient_id,label\nDoe^1,0\nDOE^1,0\n", encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        refuse_duplicates(
            read_table(path, required=("patient_id", "label"), known=LABEL_COLUMNS, safe_ids=False),
            path,
            show_id=False,
        )
    assert "lines [2, 3]" in str(caught.value)
    assert "doe" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("there", "written"), [("Ju\u0308rgen", "J\u00fcrgen"), ("J\u00fcrgen", "Ju\u0308rgen")]
)
def test_paths_in_the_other_unicode_form(tmp_path, there, written):
    (tmp_path / there).mkdir()
    (tmp_path / "m.csv").write_text(
        f"patient_id,label,image,mask\np,1,\u00a0{written}/ct,{written}\n", encoding="utf-8"
    )
    table = read_manifest(tmp_path / "m.csv")
    assert table["mask"].tolist() == [str(tmp_path / there)]
    assert table["image"].tolist() == [str(tmp_path / written / "ct")]  # absent: as written


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pd.Series([7, 8]), ["7", "8"]),
        (pd.Series([b"007", b"008"]), ["007", "008"]),
        (pd.Series(["007", "\u200b008"], dtype="category"), ["007", "008"]),
    ],
)
def test_ids_in_parquet(tmp_path, ids, expected):
    path = tmp_path / "labels.parquet"
    pd.DataFrame(
        {"patient_id": ids, "label": pd.array([1, None], "Int64"), "max_diameter_mm": [30, 41]}
    ).set_index("patient_id").to_parquet(path)
    table = read_table(path, required=("patient_id", "label"), known=LABEL_COLUMNS)
    assert table["patient_id"].tolist() == expected
    assert table["label"].tolist() == [1, pd.NA]
    assert table["max_diameter_mm"].tolist() == [30.0, 41.0]


def test_parquet_counts_rows_and_refuses_ids_that_are_floats(tmp_path):
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"patient_id": [7.0, 8.0], "label": [1, 0]}).to_parquet(path)
    with pytest.raises(StudyError, match="every patient_id is a number"):
        read_table(path, required=("patient_id", "label"), known=LABEL_COLUMNS)
    pd.DataFrame({"patient_id": ["a", "b"], "label": [1, 3]}).to_parquet(path)
    with pytest.raises(StudyError, match="row 2: label '3'"):
        read_table(path, required=("patient_id", "label"), known=LABEL_COLUMNS)


IDS = st.lists(
    st.text('AZ09._ ^-\u00e9\u00a0,;"|', max_size=6).map(lambda text: f"P{text}x"),
    min_size=1,
    max_size=4,
    unique_by=lambda text: normal_id(text).casefold(),
)
NUMBERS = st.one_of(
    st.none(), st.floats(0, 2000, allow_nan=False, width=32), st.integers(0, 120).map(float)
)
ROW = st.tuples(
    st.sampled_from([0, 1, None]), NUMBERS, NUMBERS, st.text("ab\u00fc ,;\t\"'\n.0", max_size=8)
)


@given(
    ids=IDS,
    rows=st.lists(ROW, min_size=4, max_size=4),
    separator=st.sampled_from([",", ";", "\t"]),
    decimal=st.sampled_from([".", ","]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_pandas_writes_is_read_back(tmp_path, ids, rows, separator, decimal, encoding, end):
    written = pd.DataFrame(
        rows[: len(ids)], columns=["label", "age", "max_diameter_mm", "histology"]
    )
    written = written.astype(
        {"label": "Int8", "age": "Float64", "max_diameter_mm": "Float64"}
    ).assign(PatientID=ids)
    if end == "\r":  # with which csv.writer leaves a line feed in a cell unquoted
        written["histology"] = written["histology"].str.replace("\n", " ")
    written["age"] = written["age"].astype(
        "float64"
    )  # of this type pandas writes the decimal mark asked for
    table = read(
        tmp_path,
        written.to_csv(index=False, sep=separator, decimal=decimal, lineterminator=end).encode(
            encoding
        ),
    )
    assert table["patient_id"].tolist() == [normal_id(patient) for patient in ids]
    assert table["histology"].fillna("").tolist() == [
        normal_id(text) for text in written["histology"]
    ]
    for name in ("label", "age", "max_diameter_mm"):
        pd.testing.assert_series_equal(
            table[name].astype("Float64").reset_index(drop=True), written[name].astype("Float64")
        )
