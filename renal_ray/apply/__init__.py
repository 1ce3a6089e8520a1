"""The models of a finished study put to use: on the next patient, on another hospital's cohort, in
other programs. For research only."""
