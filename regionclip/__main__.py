"""``python -m regionclip``: the same as the ``regionclip`` command."""

from regionclip.cli import main

raise SystemExit(main())
