"""The Vega files of the page of single facts, taken from the pinned package that ships them.

    python -m pip install vl-convert-python==VERSION    # as requirements.txt pins it
    python scripts/vendor_vega.py

writes locedit/report/templates/vega.js: Vega, Vega-Lite, Vega-Embed and the interpreter of
expressions in one script without imports. It lies in the repository, so that no study needs the
package (33 MB) or the seconds that it takes to bundle. No network is asked.
"""

from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "locedit" / "report" / "templates" / "vega.js"
PACKAGE = "vl-convert-python"

HEAD = """\
/* Vega {vega}, Vega-Lite {lite}, Vega-Embed {embed}, of {package} {version}; written by
scripts/vendor_vega.py. Copyright (c) 2013-2026, University of Washington Interactive Data Lab and
contributors (https://github.com/vega); with D3, copyright 2010-2026 Mike Bostock, under the ISC
license. All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted
provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions
   and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions
   and the following disclaimer in the documentation and/or other materials provided with the
   distribution.

3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse
   or promote products derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR
IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND
FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR
CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE,
DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER
IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF
THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE. */
"""


def vendored() -> str:
    """The script, with a head that says what is in it, of which release of the package."""
    import vl_convert

    head = HEAD.format(
        vega=vl_convert.get_vega_version(),
        lite=vl_convert.get_vegalite_versions()[-1],
        embed=vl_convert.get_vega_embed_version(),
        package=PACKAGE,
        version=metadata.version(PACKAGE),
    )
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # optional, but in its stub
    # names of its own: as a classic script it would put some hundreds into the page's
    return f"{head}(() => {{\n{bundle}\n}})();\n"


if __name__ == "__main__":
    TARGET.write_text(vendored(), encoding="utf-8")
