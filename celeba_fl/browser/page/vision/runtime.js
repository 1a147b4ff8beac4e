/**
 * ONNX Runtime Web: in a Worker from `/ort/`, in node from the folder that the env ORT_WEB names.
 */

const MOST_THREADS = 4;

/**
 * Load it, for the cores (WASM), with threads where the page may have them.
 *
 * @param {{base?: string}} options - the URL that the page is served at
 * @returns {Promise<Runtime>}
 */
export async function loadRuntime({ base = "/" } = {}) {
  const folder = globalThis.process?.env?.ORT_WEB;
  const place = folder ? `file://${folder}/` : new URL(`${base}ort/`, globalThis.location).href;
  const ort = await import(`${place}ort.wasm.min.mjs`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = place;
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(cores, MOST_THREADS) : 1;
  return new Runtime(ort);
}

/** Runs ONNX files; `name` says what does it, such as "onnxruntime-web 1.30.0 wasm". */
class Runtime {
  #ort;
  #kept = new Map();

  constructor(ort) {
    this.#ort = ort;
    this.name = `onnxruntime-web ${ort.env.versions.web} wasm`;
    this.Tensor = ort.Tensor;
  }

  /** The session of an ONNX file: of its bytes, or of a URL, which is loaded once. */
  session(source) {
    if (typeof source !== "string") return this.#create(source);
    if (!this.#kept.has(source)) {
      const loaded = fetchBytes(source).then((bytes) => this.#create(bytes));
      loaded.catch(() => this.#kept.delete(source));
      this.#kept.set(source, loaded);
    }
    return this.#kept.get(source);
  }

  /** The outputs by name, of inputs by name. */
  async run(source, feeds) {
    return (await this.session(source)).run(feeds);
  }

  #create(bytes) {
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    return this.#ort.InferenceSession.create(bytes, options);
  }
}

async function fetchBytes(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return new Uint8Array(await answer.arrayBuffer());
}
