"""What a trained generator says of itself."""

import subprocess

from allaprima import result


def test_a_commit_is_told_to_have_changes_of_all_but_documentation(tmp_path, monkeypatch):
    names = "src/allaprima/result.py", "configs/train.yaml", "README.md", "docs/recipe.md"
    files = [tmp_path / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("as it was")

    def git(*arguments):
        settings = "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"
        command = ["git", "-C", str(tmp_path), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(result, "__file__", str(files[0]))
    git("init")
    assert result.source_commit() == f"release {result.allaprima.__version__}"
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("not of the tree")
    files[2].write_text("changed")
    files[3].write_text("changed")
    assert result.source_commit() == commit
    files[1].write_text("changed")
    assert result.source_commit() == f"{commit} with changes"
    git("checkout", "--", "configs")
    assert result.source_commit() == commit
    files[0].write_text("changed")
    assert result.source_commit() == f"{commit} with changes"
