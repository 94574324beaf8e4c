"""Make a checkpoint and a layer of about 400 MB: make_large.py FOLDER.

The file is sparse, but for some values of each tensor, so it is quick to make; all of it is read.
The layer has 48 experts of 3 tensors in f32, and a dense weight that is used in place.
"""

import json
import struct
import sys
from pathlib import Path

E, H, I, DENSE = 48, 512, 1024, 50_000

LAYER = """\
#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>

func.func @layer(%x: tensor<?xHxf32>, %router: tensor<ExHxf32> {moe.param = "gate"},
                 %dense: tensor<DxHxf32> {moe.param = "dense"},
                 %wg: tensor<ExIxHxf32> {moe.param = "experts.{expert}.gate"},
                 %wu: tensor<ExIxHxf32> {moe.param = "experts.{expert}.up"},
                 %wd: tensor<ExHxIxf32> {moe.param = "experts.{expert}.down"})
    -> (tensor<?xHxf32> {moe.name = "y"}, tensor<?xDxf32> {moe.name = "z"}) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?xHxf32>
  %M = arith.muli %T, %c2 : index
  %l0 = tensor.empty(%T) : tensor<?xExf32>
  %l1 = linalg.fill ins(%zero : f32) outs(%l0 : tensor<?xExf32>) -> tensor<?xExf32>
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : tensor<?xHxf32>, tensor<ExHxf32>) outs(%l1 : tensor<?xExf32>) -> tensor<?xExf32>
  %z0 = tensor.empty(%T) : tensor<?xDxf32>
  %z1 = linalg.fill ins(%zero : f32) outs(%z0 : tensor<?xDxf32>) -> tensor<?xDxf32>
  %z = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %dense : tensor<?xHxf32>, tensor<DxHxf32>) outs(%z1 : tensor<?xDxf32>) -> tensor<?xDxf32>
  %w0 = tensor.empty(%T) : tensor<?x2xf32>
  %i0 = tensor.empty(%T) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?xExf32>)
      outs(%w0, %i0 : tensor<?x2xf32>, tensor<?x2xi32>)
  %o0 = tensor.empty() : tensor<OFFSETSxi32>
  %r0 = tensor.empty(%M) : tensor<?xHxf32>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?xHxf32>)
      outs(%o0, %i0, %r0 : tensor<OFFSETSxi32>, tensor<?x2xi32>, tensor<?xHxf32>)
  %ys = moe.expert offsets(%offsets : tensor<OFFSETSxi32>) rows(%rows : tensor<?xHxf32>)
      params(%wg, %wu, %wd : tensor<ExIxHxf32>, tensor<ExIxHxf32>, tensor<ExHxIxf32>)
      outs(%r0 : tensor<?xHxf32>) {
  ^bb0(%expert: index, %xe: tensor<?xHxf32>, %g: tensor<IxHxf32>, %u: tensor<IxHxf32>, %d: tensor<HxIxf32>):
    %n = tensor.dim %xe, %c0 : tensor<?xHxf32>
    %h0 = tensor.empty(%n) : tensor<?xIxf32>
    %h1 = linalg.fill ins(%zero : f32) outs(%h0 : tensor<?xIxf32>) -> tensor<?xIxf32>
    %a = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %g : tensor<?xHxf32>, tensor<IxHxf32>) outs(%h1 : tensor<?xIxf32>) -> tensor<?xIxf32>
    %b = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %u : tensor<?xHxf32>, tensor<IxHxf32>) outs(%h1 : tensor<?xIxf32>) -> tensor<?xIxf32>
    %h = arith.mulf %a, %b : tensor<?xIxf32>
    %y0 = tensor.empty(%n) : tensor<?xHxf32>
    %y1 = linalg.fill ins(%zero : f32) outs(%y0 : tensor<?xHxf32>) -> tensor<?xHxf32>
    %y = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%h, %d : tensor<?xIxf32>, tensor<HxIxf32>) outs(%y1 : tensor<?xHxf32>) -> tensor<?xHxf32>
    moe.yield %y : tensor<?xHxf32>
  }
  %y0 = tensor.empty(%T) : tensor<?xHxf32>
  %y = moe.combine rows(%ys : tensor<?xHxf32>) slots(%slots : tensor<?x2xi32>) weights(%weights : tensor<?x2xf32>)
      outs(%y0 : tensor<?xHxf32>)
  return %y, %z : tensor<?xHxf32>, tensor<?xDxf32>
}
"""

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
shapes = {"gate": (E, H), "dense": (DENSE, H)}
for e in range(E):
    shapes |= {f"experts.{e}.gate": (I, H), f"experts.{e}.up": (I, H), f"experts.{e}.down": (H, I)}
header, offset = {}, 0
for name, shape in shapes.items():
    end = offset + 4 * shape[0] * shape[1]
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
    offset = end
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(folder / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for number, entry in enumerate(header.values()):
        file.seek(8 + len(text) + entry["data_offsets"][0] + 4 * (number % 100))
        file.write(struct.pack("<f", 1 + number % 7))
    file.truncate(8 + len(text) + offset)

layer = LAYER.replace("OFFSETS", str(E + 1))
for letter, size in (("E", E), ("H", H), ("I", I), ("D", DENSE)):
    layer = layer.replace(f"<{letter}x", f"<{size}x").replace(f"x{letter}x", f"x{size}x")
(folder / "layer.mlir").write_text(layer)
