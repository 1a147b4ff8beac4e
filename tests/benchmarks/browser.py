"""Seconds that a tab takes for the features of `--number` pictures, in Chromium on one core.

    python tests/benchmarks/browser.py --dataset /data/celeba --features last balanced

Prints the wall time and the CPU time of Chromium's processes, from encoded pictures to features,
once the model is there and at first, and how far the features are from native ones.
"""

import argparse
import base64
import os
import shutil
from threading import Thread

import httpx
import numpy as np
import psutil
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.runtime import runtime_folder
from celeba_fl.browser.server import Served, make_app
from celeba_fl.config import RunConfig
from celeba_fl.data import sources
from celeba_fl.deployment.local import free_ports
from celeba_fl.rounds.runtimes import distance
from celeba_fl.vision.extractor import FeatureExtractor, onnx_file
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import resolve_weights

SEE = """
const [view, encoded, done] = arguments;
const images = encoded.map((text) => {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]);
});
(async () => {
  const { loadRuntime } = await import("/vision/runtime.js");
  const { features } = await import("/vision/features.js");
  globalThis.runtime ??= await loadRuntime();
  const start = performance.now();
  const rows = await features(runtime, view, images);
  done([runtime.name, (performance.now() - start) / 1000, Array.from(rows)]);
})().catch((error) => done([String(error), 0, []]));
"""


def main() -> None:
    """Serve the page, open it, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="drawn")
    parser.add_argument("--features", nargs="+", default=["last", "balanced"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--number", type=int, default=20)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    home, (port,) = RunConfig().home_dir, free_ports(1)
    weights = resolve_weights("mobilenet_v2", "drawn", home, None)  # type: ignore[arg-type]
    table = sources.load(options.dataset, home)
    images = [table.read(int(row)) for row in table.rows("train")[: options.number]]
    served = Served(SuperLink("none", "127.0.0.1:9"), home, runtime_folder(home), ("127.0.0.1",))
    app = make_app(served, httpx.AsyncHTTPTransport())
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    Thread(target=server.run, daemon=True).start()
    chrome = webdriver.ChromeOptions()
    chrome.binary_location = str(shutil.which("chromium"))
    for flag in ("headless=new", "no-sandbox"):
        chrome.add_argument(f"--{flag}")
    driver = Service(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(options=chrome, service=driver) as browser:
        browser.set_script_timeout(300)
        browser.get(f"http://127.0.0.1:{port}/style.css")
        processes = psutil.Process(driver.process.pid).children(recursive=True)
        for features in options.features:
            size = options.image_size if features == "last" else 0
            view = make_view("mobilenet_v2", features, size)
            onnx_file(home, view, weights)
            told = {
                "backbone": view.backbone,
                "weights": weights,
                "features": view.features,
                "imageSize": view.image_size,
                "dim": view.dim,
            }
            encoded = [base64.b64encode(image).decode() for image in images]
            times = []
            for _ in range(2):
                before = cpu_seconds(processes)
                runtime, wall, rows = browser.execute_async_script(SEE, told, encoded)
                times.append(f"{wall:.2f} s ({cpu_seconds(processes) - before:.2f} s of CPU time)")
            with FeatureExtractor(home, view, weights) as extractor:
                native = np.stack([row for row in extractor(iter(images)) if row is not None])
            found = np.array(rows, np.float32).reshape(-1, view.dim)
            far = max(map(distance, found, native))
            print(
                f"{view.features}@{view.image_size}, {runtime}: {times[1]}, "
                f"at first {times[0]}; largest difference {np.abs(found - native).max():.1e}, "
                f"1 - cosine {far:.1e}"
            )
    server.should_exit = True


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """The CPU time that processes have taken."""
    return sum(sum(one.cpu_times()[:2]) for one in processes if one.is_running())


if __name__ == "__main__":
    main()
