"""What a test leaves: rows.csv, tables in the paper's layout, and galleries of pictures."""

from aimmat.tables.gallery import GalleryItem, gallery_html, gallery_png
from aimmat.tables.rows import read_rows, write_file, write_rows
from aimmat.tables.tables import Column, Table, results_table, summarise

__all__ = [
    "Column",
    "GalleryItem",
    "Table",
    "gallery_html",
    "gallery_png",
    "read_rows",
    "results_table",
    "summarise",
    "write_file",
    "write_rows",
]
