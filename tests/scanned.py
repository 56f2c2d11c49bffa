"""A scan of a folder, as the tests of its parts ask for it."""

from maekit.data.listing import list_pictures
from maekit.data.scan import survey_files

LIMIT = 100_000_000


def survey(folder, seen=None, workers=2):
    def progress(done, total):
        if seen is not None:
            seen.append((done, total))

    return survey_files(list_pictures(folder), folder, LIMIT, workers, progress)
