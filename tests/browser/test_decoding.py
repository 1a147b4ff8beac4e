"""Pictures as Chromium shows them to the page, beside Pillow's."""

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from PIL import Image, ImageCms
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from celeba_fl.common.bundle import PACKAGE
from celeba_fl.data.images import ORIENTATION, decode

pytestmark = pytest.mark.slow
PAGE = PACKAGE / "browser" / "page"
SIZE = 45, 32
DECODE = """
const [encoded, done] = arguments;
const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
import("/vision/pixels.js")
  .then(({ decode }) => decode(new Blob([bytes]), { name: "a.jpg" }))
  .then(({ width, height, data }) => {
    let text = "";
    for (const value of data) text += String.fromCharCode(value);
    done([width, height, btoa(text)]);
  })
  .catch((error) => done(`${error.constructor.name} ${error.message}`));
"""
Show = Callable[[bytes], np.ndarray | str]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Show]:
    """The pixels (height, width, 3) of an encoded picture in Chromium, or its error."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser here: chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    folder = tmp_path_factory.mktemp("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"):
        options.add_argument(flag)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(PAGE)))
    Thread(target=server.serve_forever, daemon=True).start()
    with webdriver.Chrome(options=options, service=Service(executable_path=driver)) as browser:
        browser.get(f"http://127.0.0.1:{server.server_port}/style.css")

        def shown(data: bytes) -> np.ndarray | str:
            found = browser.execute_async_script(DECODE, base64.b64encode(data).decode())
            if isinstance(found, str):
                return found
            width, height, pixels = found
            return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 3)

        yield shown
    server.shutdown()
    server.server_close()


def here(data: bytes) -> np.ndarray:
    """The pixels as Python sees them."""
    seen: list[np.ndarray] = []

    def look(image: Image.Image) -> Image.Image:
        seen.append(np.asarray(image))
        return image

    decode(data, 8, look)
    return seen[0]


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(*shape: int, dtype: type = np.uint8) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, np.iinfo(dtype).max, (*SIZE, *shape), dtype))


def turned(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(noise(3), form, exif=exif)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# What is red to others is green to this one, and the other way round.
SWAPPED = SRGB.replace(b"rXYZ", b"?").replace(b"gXYZ", b"rXYZ").replace(b"?", b"gXYZ")
EXACT = {
    **{f"JPEG {s}": saved(noise(3), "JPEG", subsampling=s) for s in ("4:4:4", "4:2:2", "4:2:0")},
    **{f"{form} {i}": turned(form, i) for form in ("JPEG", "PNG") for i in range(1, 9)},
    "progressive": saved(noise(3), "JPEG", progressive=True),
    "grey JPEG": saved(noise(), "JPEG"),
    "CMYK": saved(noise(4).convert("RGB").convert("CMYK"), "JPEG"),
    "palette": saved(noise(3).quantize(16), "PNG"),
    "transparent palette": saved(noise(3).quantize(16), "PNG", transparency=3),
    "transparent": saved(noise(4), "PNG"),
    "transparent grey": saved(noise(2), "PNG"),
    "grey": saved(noise(), "PNG"),
    "black and white": saved(noise().convert("1"), "PNG"),
    "sRGB": saved(noise(3), "PNG", icc_profile=SRGB),
    "damaged profile": saved(noise(3), "PNG", icc_profile=SRGB[:200]),
}


def test_pixels_are_those_that_python_sees(show: Show) -> None:
    """To the last bit; but for grey of 16 bits, which Chromium cuts, and foreign colours, by 1."""
    different = [name for name, data in EXACT.items() if (show(data) != here(data)).any()]
    assert different == []
    for data in (saved(noise(dtype=np.uint16), "PNG"), saved(noise(3), "PNG", icc_profile=SWAPPED)):
        assert np.abs(np.subtract(show(data), here(data), dtype=int)).max() <= 1


def test_what_is_no_whole_picture_is_refused_by_name(show: Show) -> None:
    jpeg, png = saved(noise(3), "JPEG"), saved(noise(3), "PNG")
    huge = png[:16] + (60_000).to_bytes(4) * 2 + png[24:]
    for data, why in {
        jpeg[: len(jpeg) // 2]: "is cut off",
        png[: len(png) // 2]: "is cut off",
        png[:-4]: "is cut off",
        png[:60] + bytes(20) + png[80:]: "is damaged",
        saved(noise(3), "WEBP"): "is not a JPEG or PNG picture",
        saved(noise(), "GIF"): "is not a JPEG or PNG picture",
        b"": "is not a JPEG or PNG picture",
        huge: "has 60000 x 60000 pixels; 64 million are the most",
    }.items():
        assert show(data).startswith(f"PictureError a.jpg: {why}")
