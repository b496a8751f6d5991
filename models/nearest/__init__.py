"""Exact nearest neighbours among images of bytes, in blocks of bounded memory, whatever their number and size.

Pixels are integers, and so are distances: L1 is sum |a - b|, L2 is told as its square, sum (a - b)^2. Neighbours come
by (distance, index): of equally distant images the lower index enters. `search` is compiled, for this machine's
processor; `plain` is made of torch's own operations, for export and for other devices, and finds the same.
"""

from typing import Literal

Distance = Literal["l1", "l2"]
