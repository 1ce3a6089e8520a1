"""A finished study's models on another hospital's cohort, all of whose patients are test
patients."""
