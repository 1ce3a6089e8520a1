"""Tables and figures as an article needs them: LaTeX, Word, and figures of journal width."""
