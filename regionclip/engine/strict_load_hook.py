"""StrictLoadHook: refuses a checkpoint that does not fit the model, where MMEngine only prints a warning."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from regionclip.checkpoints.containers import refuse_non_finite
from regionclip.checkpoints.loading import require_fit

# The vocabulary comes from the text bank, and on the counter no result depends.
_ALLOWED = r"roi_head\.bbox_head\.fc_cls\.embeddings|.*\.num_batches_tracked"


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Compare every key and shape of a checkpoint with the model's before MMEngine loads it (with ``strict=False``).

    A detector whose weights silently stayed random is the commonest cause of an AP near zero.

    Raises:
        InputError: A key is missing, left over or of another shape, and is not allowed by name; or a weight is not
            finite.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check ``checkpoint``; MMEngine calls this before it copies the weights."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state, file = checkpoint.get("state_dict", checkpoint), runner.cfg.get("load_from") or runner.work_dir
        require_fit(model.state_dict(), state, file, _ALLOWED, mend="give the checkpoint of this config's model")
        refuse_non_finite(state, file)
