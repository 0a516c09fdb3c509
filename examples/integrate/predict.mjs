// Soil moisture of one paddock in JavaScript: npm install onnxruntime-web; node predict.mjs model.onnx
// The same file runs in a browser. NaN is missing; day is NaN in steps that are padding.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const FLAGS = ["missing_input", "input_out_of_range", "soil_signal_lost", "dense_vegetation",
  "frozen_or_snow", "outside_domain", "short_history", "context_missing", "sm_clipped", "no_skill",
  "vegetation_old", "wet_without_rain"];

// {"sigma0_db": [[...T]], "ndvi": [[...T]], "day": [[...T]], "statics": [[...]], ...}, null where missing
export async function retrieve(model, planes) {
  const session = await ort.InferenceSession.create(model);
  const feed = {};
  for (const name of session.inputNames) {
    const shape = [];
    for (let part = planes[name]; Array.isArray(part); part = part[0]) shape.push(part.length);
    const values = planes[name].flat(Infinity).map((x) => (x === null ? NaN : x));
    feed[name] = new ort.Tensor("float32", Float32Array.from(values), shape); // at least one window
  }
  const { sm, flags } = await session.run(feed);
  return Array.from(sm.data, (value, i) => ({
    sm: Number.isNaN(value) ? null : value,
    flags: FLAGS.filter((_, bit) => (flags.data[i] >> bit) & 1),
  }));
}

if (process.argv.length > 3) {
  const planes = JSON.parse(readFileSync(process.argv[3], "utf8"));
  console.log(JSON.stringify(await retrieve(readFileSync(process.argv[2]), planes)));
}
