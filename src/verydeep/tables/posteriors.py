"""The posteriors of the tables: one file for each test of each net."""

from dataclasses import dataclass
from pathlib import Path

from verydeep.nets.stored_net import MODEL_FILE
from verydeep.tables.grid import TableRun
from verydeep.testing.protocols import ProtocolAt
from verydeep.testing.result import Result, is_saved_posteriors, load_posteriors, save_posteriors


@dataclass(frozen=True, kw_only=True)
class SavedPosteriors:
    """The posteriors of tests of one split, below one folder."""

    folder: Path
    fingerprint: str  # of the data
    split: str
    with_scales: bool  # names say the test scales, where these do not go by S

    def save(self, result: Result, run: TableRun, test: ProtocolAt) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save_posteriors(result, self._file(run, self.name(test)))

    def load(self, run: TableRun, test: ProtocolAt) -> Result | None:
        """Reads those of a test; None where they are not there, or the net is newer."""
        model = run.model / MODEL_FILE if run.model.is_dir() else run.model
        for name in dict.fromkeys([self.name(test), test.protocol.name]):
            file = self._file(run, name)
            if is_saved_posteriors(file) and not (model.exists() and file.stat().st_mtime < model.stat().st_mtime):
                result = load_posteriors(file)
                of_these = (result.fingerprint, result.split) == (self.fingerprint, self.split)
                if of_these and result.test_scales == test.scales:
                    return result
        return None

    def name(self, test: ProtocolAt) -> str:
        """Such as ``multi-scale``, and with scales ``multi-scale-Q64-96``."""
        return test.protocol.name + (f"-Q{'-'.join(map(str, test.scales))}" if self.with_scales else "")

    def _file(self, run: TableRun, name: str) -> Path:
        return self.folder / f"{run.stem}-{name}.safetensors"
