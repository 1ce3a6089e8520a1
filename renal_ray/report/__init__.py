"""Tables, figures and the page. Reads files, trains nothing."""
