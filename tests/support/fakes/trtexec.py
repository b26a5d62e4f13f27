"""A fake `trtexec` of TensorRT 10.3: it has the flags below, and notes how it was called."""

import json
import os
import sys
from pathlib import Path

FLAGS = (
    *("onnx", "saveEngine", "loadEngine", "memPoolSize", "stronglyTyped", "noTF32"),
    *("skipInference", "timingCacheFile", "loadInputs", "exportOutput", "useCudaGraph"),
)
BANNER = "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b26] # trtexec"


def main() -> None:
    engines = Path(os.environ["VLACUT_ENGINES"])
    engines.mkdir(parents=True, exist_ok=True)
    with (engines / "commands").open("a") as commands:
        commands.write(json.dumps(sys.argv[1:]) + "\n")
    print(BANNER)
    if "--help" in sys.argv:
        print(*(f"  --{flag}=<spec>  Something" for flag in FLAGS), sep="\n")
        return
    given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    unknown = set(given) - set(FLAGS)
    if unknown:
        print(f"[11/21/2026-10:00:00] [E] Unknown option: {unknown}")
        sys.exit(1)
    os.environ.pop("FAKE_MODULE", None)
    import fake_device
    import tensorrt as trt

    fake_device.driver().begun = True
    if "saveEngine" in given:
        _build(trt, given)
    else:
        _run(trt, given)


def _build(trt, given):
    class Quiet(trt.ILogger):
        def log(self, severity, msg):
            print(msg)

    builder = trt.Builder(Quiet())
    network = builder.create_network(2 if "stronglyTyped" in given else 0)
    parser = trt.OnnxParser(network, Quiet())
    path = Path(given["onnx"])
    assert parser.parse(path.read_bytes(), str(path)), [parser.get_error(0).desc()]
    # The real one copies weights into the engine; this one notes where they are.
    network.folder = str((path.parent / "weights").resolve().parent)
    Path(given["saveEngine"]).write_bytes(
        builder.build_serialized_network(network, builder.create_builder_config())
    )


def _run(trt, given):
    import numpy as np

    class Quiet(trt.ILogger):
        def log(self, severity, msg):
            print(msg)

    data = Path(given["loadEngine"]).read_bytes()
    session = trt.Runtime(Quiet()).deserialize_cuda_engine(data).session
    kinds = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int64)": "i8"}
    files = dict(item.rpartition(":")[::2] for item in given["loadInputs"].split(","))
    inputs = {
        value.name: np.fromfile(files[f"'{value.name}'"], kinds[value.type]).reshape(value.shape)
        for value in session.get_inputs()
    }
    names = [value.name for value in session.get_outputs()]
    made = [
        {
            "name": name,
            "dimensions": "x".join(map(str, array.shape)),
            "values": array.ravel().tolist(),
        }
        for name, array in zip(names, session.run(names, inputs), strict=True)
    ]
    Path(given["exportOutput"]).write_text(json.dumps(made))
    print("[I] GPU Compute Time: min = 0.01 ms, max = 0.02 ms, mean = 0.015 ms, median = 0.015 ms")


if __name__ == "__main__":
    main()
