"""Fail on packages of this environment with a known hole that a newer version mends.

Reads what ``pip-audit --format json`` has written, and says how many packages it could look up.
"""

import json
import sys
from pathlib import Path

found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["dependencies"]
known = [package for package in found if "skip_reason" not in package]
print(f"pip-audit: {len(known)} of {len(found)} packages looked up")
holes = [
    f"{package['name']} {package['version']}: {hole['id']}, mended in {hole['fix_versions'][-1]}"
    for package in known
    for hole in package["vulns"]
    if hole["fix_versions"]
]
sys.exit("\n".join(holes) or None)  # an empty string would be an error, too
