"""What the commands print: rich pages for people, one JSON object for programs. A file a kind of page."""
