"""Groups of commands, one file per noun. Only typer is imported at their top, so that help is quick."""
