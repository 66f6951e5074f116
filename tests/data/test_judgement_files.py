"""Judgements from files: our exports, the forms of the CPL code, and what is refused."""

import json

import numpy as np
import pytest

from steelyard.data.findings import DatasetError
from steelyard.data.judgement_files import read_comparisons, read_judgements


def exported(folder, ratings=(), pairs=()):
    (folder / "export").mkdir(parents=True)
    for name, rows in (("ratings", ratings), ("pairs", pairs)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "export" / f"{name}.jsonl").write_text(text)
    return folder


def test_exports_are_read_in_our_orientation(tmp_path):
    pairs = [
        {"a": 3, "b": 7, "label": 1, "strength": 0.5, "annotator": "ana"},
        {"a": 3, "b": 7, "label": 0, "strength": 1.0, "annotator": "bo"},
        {"a": 1, "b": 2, "label": 0.5, "strength": 0.0, "annotator": "bo"},
    ]
    ratings = [{"segment": 4, "rating": 5, "annotator": "ana"}]
    rated, compared = read_judgements(exported(tmp_path, ratings, pairs))
    assert compared.winner.tolist() == [7, 3, 1]
    assert compared.loser.tolist() == [3, 7, 2]
    assert compared.label.tolist() == [1.0, 1.0, 0.5]
    assert compared.names == ("ana", "bo")
    assert (rated.segment.tolist(), rated.rating.tolist()) == ([4], [5.0])


def test_nothing_exported_says_how_to(tmp_path):
    with pytest.raises(FileNotFoundError, match="steelyard label export"):
        read_judgements(tmp_path)


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "preference_data.pkl").write_bytes(b"anything")
    with pytest.raises(DatasetError, match="a pickle can run any code"):
        read_judgements(tmp_path)


def test_broken_lines_are_named(tmp_path):
    folder = exported(tmp_path / "x", [{"segment": 1, "annotator": "n"}])
    with pytest.raises(DatasetError, match=r"ratings.jsonl, line 1 has no 'rating'"):
        read_judgements(folder)
    (folder / "export" / "ratings.jsonl").write_text("{nonsense\n")
    with pytest.raises(DatasetError, match="line 1: must be one JSON object"):
        read_judgements(folder)
    (folder / "export" / "ratings.jsonl").write_text(
        json.dumps({"segment": "a", "rating": 1, "annotator": "n"}) + "\n"
    )
    with pytest.raises(DatasetError, match="segment is a number, got 'a'"):
        read_judgements(folder)


def test_both_forms_of_the_cpl_code_are_read(tmp_path):
    obs, action = np.arange(12.0).reshape(4, 1, 3), np.zeros((4, 1, 2))
    np.savez(
        tmp_path / "pairs.npz", obs_1=obs[:2], action_1=action[:2], obs_2=obs[2:],
        action_2=action[2:], label=np.array([1.0, 0.5]),
    )  # fmt: skip
    found = read_comparisons(tmp_path / "pairs.npz")
    assert (found["winner"].tolist(), found["loser"].tolist()) == ([2, 1], [0, 3])
    assert found["label"].tolist() == [1.0, 0.5]
    np.savez(tmp_path / "c.npz", obs=obs, action=action, rl_sum=np.array([1.0, 5, 2, 5]))
    found = read_comparisons(tmp_path / "c.npz")
    assert (found["winner"].tolist(), found["label"].tolist()) == ([2, 1], [1.0, 0.5])
    np.savez(tmp_path / "none.npz", obs=obs)
    with pytest.raises(DatasetError, match="needed are obs_1"):
        read_comparisons(tmp_path / "none.npz")
    np.savez(tmp_path / "p.npz", obs=np.array([{}], object))
    with pytest.raises(DatasetError, match="pickled objects are never opened"):
        read_comparisons(tmp_path / "p.npz")
