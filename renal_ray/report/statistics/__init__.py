"""The statistics of the report: intervals, comparisons, calibration, decisions, subgroups, voters.
Numbers from protocol/, shown as tables and figures."""
