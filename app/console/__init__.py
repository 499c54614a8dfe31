"""The page at ``/``: markup, styles and modules, sent as they are."""
