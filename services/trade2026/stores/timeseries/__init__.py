"""Time series: tables of rows in time, declared once, written with the positions that they were read to."""
