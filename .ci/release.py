"""Prepare a release: check its version, and make its notes, archives and rendered repository.

release.py check TAG                  the tag, pyproject.toml and CHANGELOG.md have the same version
release.py notes TAG                  print the section of the version in CHANGELOG.md
release.py archives TAG FOLDER        the source, and a project that is generated with the defaults
release.py render TAG REMOTE BRANCH   push that project as a commit to a branch of a repository

The variables RENDERED_AUTHOR and RENDERED_EMAIL set the author of the project. Without the second
one, its SECURITY.md explains that the address is an example.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
#: An address that cannot exist (RFC 2606), and the paragraph that explains it.
NO_ADDRESS = "security@example.com"
EXAMPLE = """
This project is an example, generated with {template}, and `{address}` is not a real address.
Replace it with yours, here and in `pyproject.toml`, and the author in `LICENSE`. Report a
vulnerability of the generated code to the template, as its own `SECURITY.md` describes.
"""
HEADING = re.compile(r"^## (?P<version>\d\S*) \((?P<date>\d{4}-\d{2}-\d{2})\)$", re.MULTILINE)


class ReleaseError(Exception):
    """The repository is not ready for this release."""


def version_of(tag: str) -> str:
    """Return the version of a tag such as `v1.2.3`."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise ReleaseError(f"{tag} is not a tag such as v1.2.3")
    return tag.removeprefix("v")


def section(changelog: str, version: str) -> str:
    """Return the text below the heading of a version."""
    headings = list(HEADING.finditer(changelog))
    for number, heading in enumerate(headings):
        if heading["version"] == version:
            following = headings[number + 1 :]
            end = following[0].start() if following else len(changelog)
            text = changelog[heading.end() : end].strip()
            if not text:
                raise ReleaseError(f"the section of {version} in CHANGELOG.md is empty")
            return text + "\n"
    raise ReleaseError(f"CHANGELOG.md has no heading `## {version} (YYYY-MM-DD)`")


def check(tag: str, repository: Path = REPOSITORY) -> str:
    """Return the notes of a release whose version is the same everywhere."""
    version = version_of(tag)
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    if project["version"] != version:
        raise ReleaseError(f"pyproject.toml has the version {project['version']}, not {version}")
    return section((repository / "CHANGELOG.md").read_text("utf-8"), version)


def archives(tag: str, folder: Path, repository: Path = REPOSITORY) -> None:
    """Write an archive of the source, and one of a generated project."""
    name = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{name}-{version_of(tag)}"
    source = folder.resolve() / f"{prefix}.tar.gz"
    git(repository, "archive", f"--prefix={prefix}/", f"--output={source}", tag)
    with tempfile.TemporaryDirectory() as temporary:
        project = generate(tag, Path(temporary), repository)
        example = str(folder.resolve() / f"{project.name}-example-{version_of(tag)}")
        shutil.make_archive(example, "gztar", project.parent, project.name)


def render(tag: str, remote: str, branch: str, repository: Path = REPOSITORY) -> None:
    """Replace the files of a branch by those of a generated project, in a new commit."""
    with tempfile.TemporaryDirectory() as temporary:
        project = generate(tag, Path(temporary), repository)
        git(project, "init", "--quiet", f"--initial-branch={branch}")
        if git(project, "ls-remote", "--heads", remote, branch):
            git(project, "fetch", "--quiet", "--depth=1", remote, branch)
            git(project, "reset", "--quiet", "--soft", "FETCH_HEAD")
        git(project, "add", "--all", "--force")
        message = f"Generate with the template {tag}"
        git(project, "commit", "--quiet", "--allow-empty", f"--message={message}")
        git(project, "push", "--quiet", remote, f"HEAD:refs/heads/{branch}")


def generate(tag: str, folder: Path, repository: Path) -> Path:
    """Generate a project with the defaults from the committed files of a tag."""
    template = folder / "template"
    template.mkdir()
    packed = folder / "template.tar"
    git(repository, "archive", f"--output={packed}", tag)
    shutil.unpack_archive(packed, template, filter="data")
    settings = folder / "cookiecutter.yaml"
    settings.write_text(f"cookiecutters_dir: '{folder}'\nreplay_dir: '{folder}'\n", "utf-8")
    output = folder / "output"
    name = tomllib.loads((template / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    author = os.environ.get("RENDERED_AUTHOR") or f"The {name} authors"
    address = os.environ.get("RENDERED_EMAIL") or NO_ADDRESS
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input"]
    command += ["--config-file", str(settings), "--output-dir", str(output)]
    command += [f"author_name={author}", f"author_email={address}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # Our own.
    (project,) = output.iterdir()
    if address == NO_ADDRESS:
        page = project / "SECURITY.md"
        reporting, heading, rest = page.read_text("utf-8").partition("\n## Missing protections\n")
        example = EXAMPLE.format(template=name, address=address)
        page.write_text(f"{reporting}{example}{heading}{rest}", "utf-8")
    return project


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603
        ["git", "-C", str(folder), *arguments],  # noqa: S607
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def main(command: str, tag: str, *arguments: str) -> None:
    match command, arguments:
        case "check", []:
            check(tag)
        case "notes", []:
            sys.stdout.write(check(tag))
        case "archives", [folder]:
            archives(tag, Path(folder))
        case "render", [remote, branch]:
            render(tag, remote, branch)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ReleaseError as error:
        sys.exit(str(error))
    except TypeError:
        sys.exit(__doc__)
