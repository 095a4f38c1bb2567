// Plays the frames of a report: pictures, obstacles from above, and a timeline to scrub. `#frame=120` opens at a frame,
// `#camera=2&frame=120` at one of the second camera. What the page or its data lack is left out.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cameras = data.cameras;
  let which = 0, camera = cameras[0], frames = camera.frames, last = frames.length - 1, events = [];
  const element = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [cameraCanvas, classesCanvas, scoreCanvas, aboveCanvas, timeline] =
    ["camera", "classes", "score", "above", "timeline"].map(element);
  let current = 0, playing = false, drawnAt = 0, playedTo = 0;

  let times = [], span = 1, largestArea = 1, largestSecond = 1;
  function choose(number) {
    which = number;
    camera = cameras[which]; frames = camera.frames; last = frames.length - 1;
    events = data.events.filter((event) => event.camera === which);
    // Where a frame's time is on the timeline and in playing: its stamp, or its place where stamps stand still or go back.
    const steady = frames.every((frame, index) => index === 0 || frame.t > frames[index - 1].t);
    times = frames.map((frame, index) => steady ? frame.t : index / 10);
    span = Math.max(times[last] - times[0], 1e-9);
    largestArea = roundUp(Math.max(...frames.map((f) => Math.max(f.area, f.true_area || 0)), 1e-4));
    largestSecond = data.second.max || roundUp(Math.max(...frames.map((f) => f[data.second.key] || 0), 1));
    if (element("which")) element("which").value = String(which);
  }

  // Decoded as they are needed, and kept.
  const pictures = new Map();
  function picture(index, name) {
    const key = `${which} ${name} ${index}`, of = which;
    if (!pictures.has(key)) {
      const image = new Image();
      image.onload = () => { if (of === which && index === current) draw(); };
      image.src = `data:image/${name === "classes" ? "png" : "jpeg"};base64,${frames[index][name]}`;
      pictures.set(key, image);
    }
    return pictures.get(key);
  }

  // A canvas as sharp as the screen; drawing is in CSS pixels.
  function sized(canvas, height) {
    const width = canvas.clientWidth, scale = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return [context, width, height];
  }

  function path(context, outlines, scale) {
    context.beginPath();
    for (const outline of outlines) {
      for (let i = 0; i < outline.length; i += 2) {
        context[i ? "lineTo" : "moveTo"]((outline[i] + 0.5) * scale, (outline[i + 1] + 0.5) * scale);
      }
      context.closePath();
    }
  }

  function label(context, text, x, y, ink, width) {
    context.font = "600 12px system-ui, sans-serif";
    const length = context.measureText(text).width;
    const left = Math.min(Math.max(x - length / 2, 3), width - length - 3);
    context.lineWidth = 3; context.strokeStyle = "#000b"; context.lineJoin = "round";
    context.strokeText(text, left, y);
    context.fillStyle = ink; context.fillText(text, left, y);
  }

  const shows = (id) => element(id) !== null && element(id).checked;
  const found = () => shows("show-found"), truth = () => shows("show-truth");

  function drawPicture(canvas, name) {
    const [context, width, height] = sized(canvas, canvas.clientWidth * camera.size[1] / camera.size[0]);
    if (!frames[current][name]) { context.clearRect(0, 0, width, height); return [context, width, height]; }
    const image = picture(current, name);
    // What was there stays until the next picture is decoded: nothing flickers.
    if (image.complete && image.naturalWidth) {
      context.imageSmoothingEnabled = name !== "classes";
      context.drawImage(image, 0, 0, width, height);
    }
    return [context, width, height];
  }

  function drawCamera() {
    const frame = frames[current];
    const [context, width] = drawPicture(cameraCanvas, frame.camera ? "camera" : "classes");
    const scale = width / camera.width, perPixel = width / camera.size[0];
    if (truth() && frame.true_outlines) {
      path(context, frame.true_outlines, scale);
      context.lineWidth = 4; context.strokeStyle = "#0009"; context.stroke();
      context.lineWidth = 2; context.strokeStyle = "#2ee6b0"; context.stroke();
    }
    if (!found()) return;
    path(context, frame.outlines || [], scale);
    context.fillStyle = "#ff8c0055"; context.fill("evenodd");
    context.lineWidth = 1.5; context.strokeStyle = "#ff9a2b"; context.stroke();
    if (frame.false_outlines) {
      path(context, frame.false_outlines, scale);
      context.fillStyle = "#e0202066"; context.fill("evenodd");
      context.lineWidth = 2; context.strokeStyle = "#ff4d4d"; context.stroke();
    }
    for (const obstacle of frame.obstacles || []) {
      if (obstacle.box) {
        const [x, y, w, h] = obstacle.box.map((value) => value * perPixel);
        context.lineWidth = 4; context.strokeStyle = "#000a"; context.strokeRect(x, y, w, h);
        context.lineWidth = 2; context.strokeStyle = "#fff"; context.strokeRect(x, y, w, h);
        const range = obstacle.range_m === undefined ? "" : `, ${obstacle.range_m.toFixed(1)} m`;
        label(context, `${obstacle.id}${range}`, x + w / 2, y > 16 ? y - 5 : y + h + 14, "#ffd9ad", width);
      }
      if (!obstacle.pixels || !obstacle.pixels.length) continue;
      context.beginPath();
      obstacle.pixels.forEach(([u, v], i) => context[i ? "lineTo" : "moveTo"](u * perPixel, v * perPixel));
      const isFalse = obstacle.verdict === "false";
      context.lineWidth = 3; context.strokeStyle = isFalse ? "#ff4d4d" : "#fff"; context.stroke();
      const [u, v] = obstacle.pixels[obstacle.pixels.length >> 1];
      const text = `${isFalse ? "false, " : ""}${obstacle.range_m.toFixed(1)} m`;
      label(context, text, u * perPixel, v * perPixel + 15, isFalse ? "#ff9d96" : "#ffd9ad", width);
    }
  }

  function drawAbove() {
    if (!aboveCanvas) return;
    const frame = frames[current], ground = data.ground;
    // As tall as the pictures beside it.
    const [context, width, height] = sized(aboveCanvas, Math.max(cameraCanvas.clientHeight, 260));
    const ahead = ground.max_range_m + ground.camera[0] + 1, behind = 3;
    const scale = height / (ahead + behind);
    const at = ([x, y]) => [width / 2 - y * scale, height - (x + behind) * scale];
    context.fillStyle = colour("--ground"); context.fillRect(0, 0, width, height);
    const shape = (points) => {
      context.beginPath();
      points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...at(point)));
    };
    shape(ground.view); context.closePath(); context.fillStyle = colour("--view"); context.fill();
    context.font = "11px system-ui, sans-serif"; context.lineWidth = 1;
    const [cx, cy] = at(ground.camera);
    for (let range = 10; range <= ground.max_range_m; range += 10) {
      context.strokeStyle = colour("--line"); context.beginPath();
      context.arc(cx, cy, range * scale, Math.PI, 2 * Math.PI); context.stroke();
      context.fillStyle = colour("--soft"); context.fillText(`${range} m`, 4, cy - range * scale * 0.97 + 12);
    }
    // The vehicle: base_link is below its middle, the camera sits behind the windscreen.
    shape([[2.2, 0.9], [2.2, -0.9], [-2.2, -0.9], [-2.2, 0.9]]); context.closePath();
    context.fillStyle = colour("--soft"); context.fill();
    if (truth()) {
      for (const object of frame.objects || []) {
        if (object.range_m > ground.max_range_m + 5) continue;
        shape(object.footprint); context.closePath();
        context.globalAlpha = object.visible ? 1 : 0.45;
        context.fillStyle = colour("--truth"); context.strokeStyle = colour("--truth"); context.lineWidth = 1.5;
        if (object.visible) context.fill();
        context.stroke();
        const [x, y] = at(object.footprint[0]);
        context.font = "12px system-ui, sans-serif";
        const length = context.measureText(object.kind).width;
        context.fillText(object.kind, x + 8 + length < width ? x + 8 : x - 8 - length, y + 4);
        context.globalAlpha = 1;
      }
    }
    if (found()) {
      for (const obstacle of frame.obstacles || []) {
        const ink = colour(obstacle.verdict === "false" ? "--bad" : "--above");
        shape(obstacle.points);
        context.lineWidth = 4; context.lineCap = "round"; context.lineJoin = "round";
        context.strokeStyle = ink; context.stroke();
        if (obstacle.points.length === 1) {
          const [x, y] = at(obstacle.points[0]);
          context.beginPath(); context.arc(x, y, 3, 0, 7); context.fillStyle = ink; context.fill();
        }
        // Where there is truth, only what is no unknown object needs its range: the others have a name.
        if (!data.has_truth || !truth() || obstacle.verdict === "false") {
          const [x, y] = at(obstacle.points[obstacle.points.length >> 1]);
          context.font = "11px system-ui, sans-serif"; context.fillStyle = ink;
          context.fillText(`${obstacle.range_m.toFixed(1)} m`, Math.min(x + 6, width - 40), y - 4);
        }
      }
    }
  }

  const margin = { left: 40, right: 60, top: 16, bottom: 18 };
  const timeX = (index, width) => margin.left + (times[index] - times[0]) / span * (width - margin.left - margin.right);
  function roundUp(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
  }
  function drawTimeline() {
    const [context, width, height] = sized(timeline, timeline.clientHeight);
    const bottom = height - margin.bottom, tall = bottom - margin.top;
    context.clearRect(0, 0, width, height);
    context.font = "11px system-ui, sans-serif"; context.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      const y = bottom - share * tall;
      context.strokeStyle = colour("--line"); context.beginPath();
      context.moveTo(margin.left, y); context.lineTo(width - margin.right, y); context.stroke();
      context.fillStyle = colour("--above"); context.textAlign = "right";
      context.fillText(`${+(100 * share * largestArea).toPrecision(3)} %`, margin.left - 5, y + 4);
      context.fillStyle = colour("--latency"); context.textAlign = "left";
      context.fillText(`${+(share * largestSecond).toPrecision(3)}${data.second.unit}`, width - margin.right + 5, y + 4);
    }
    const areaY = (share) => bottom - share / largestArea * tall;
    context.beginPath(); context.moveTo(timeX(0, width), bottom);
    frames.forEach((frame, i) => context.lineTo(timeX(i, width), areaY(frame.area)));
    context.lineTo(timeX(last, width), bottom);
    context.fillStyle = colour("--above"); context.globalAlpha = 0.3; context.fill(); context.globalAlpha = 1;
    const line = (name, ink) => {
      context.beginPath();
      frames.forEach((frame, i) => context[i ? "lineTo" : "moveTo"](timeX(i, width), areaY(frame[name] || 0)));
      context.strokeStyle = colour(ink); context.lineWidth = 1.5; context.stroke();
    };
    line("area", "--above");
    if (data.has_truth) line("true_area", "--truth");
    context.fillStyle = colour("--latency");
    frames.forEach((frame, i) => {
      const second = frame[data.second.key];
      if (second !== null) context.fillRect(timeX(i, width) - 1, bottom - second / largestSecond * tall - 1, 2.5, 2.5);
    });
    context.fillStyle = colour("--soft"); context.textAlign = "center";
    const step = roundUp(span / 10);
    for (let t = 0; t <= span + 1e-6; t += step) {
      context.fillText(`${+t.toPrecision(3)} s`, margin.left + t / span * (width - margin.left - margin.right), height - 4);
    }
    context.font = "600 13px system-ui, sans-serif";
    for (const event of events) {
      context.fillStyle = colour(event.kind === "found" ? "--truth" : "--bad");
      context.fillText(event.kind === "found" ? "▲" : "✕", timeX(event.frame, width), 12);
    }
    context.textAlign = "left";
    const x = timeX(current, width);
    context.strokeStyle = colour("--ink"); context.lineWidth = 1.5; context.beginPath();
    context.moveTo(x, 2); context.lineTo(x, bottom); context.stroke();
    context.fillStyle = colour("--ink"); context.beginPath(); context.arc(x, bottom, 4, 0, 7); context.fill();
  }

  function draw() {
    const frame = frames[current];
    drawCamera();
    if (classesCanvas) drawPicture(classesCanvas, "classes");
    if (scoreCanvas) drawPicture(scoreCanvas, "score");
    drawAbove(); drawTimeline();
    const event = events.find((one) => one.frame === current);
    element("camera-caption").textContent = `${camera.name || "camera"}, ${frame.name}${event ? `: ${event.text}` : ""}`;
    element("where").textContent = `frame ${frame.number} · ${frame.t.toFixed(1)} s · ` +
      `${(100 * frame.area).toFixed(2)} % above the threshold` + secondText(frame);
    timeline.setAttribute("aria-valuemin", frames[0].number); timeline.setAttribute("aria-valuemax", frames[last].number);
    timeline.setAttribute("aria-valuenow", frame.number);
    // Decoded before they are needed.
    for (let i = current + 1; i <= Math.min(current + 8, last); i++) for (const name of ["camera", "classes", "score"]) if (frames[i][name]) picture(i, name);
  }

  function secondText(frame) {
    const second = frame[data.second.key];
    if (second === null || second === undefined) return "";
    return ` · ${data.second.text}${second.toFixed(data.second.digits)}${data.second.unit}`;
  }

  function show(index) {
    current = Math.min(Math.max(index, 0), last);
    playedTo = times[current];
    draw();
    if (!playing) history.replaceState(null, "", `#${cameras.length > 1 ? `camera=${which + 1}&` : ""}frame=${frames[current].number}`);
  }

  function tick(now) {
    if (!playing) return;
    playedTo += (now - drawnAt) / 1000 * Number(element("speed").value);
    drawnAt = now;
    let index = current;
    while (index < last && times[index + 1] <= playedTo) index++;
    if (index !== current) { current = index; draw(); }
    if (current === last) play(false); else requestAnimationFrame(tick);
  }

  function play(on) {
    if (on === playing) return;
    playing = on;
    element("play").textContent = playing ? "❚❚ Pause" : "▶ Play";
    if (!playing) { show(current); return; }
    if (current === last) current = 0;
    playedTo = times[current]; drawnAt = performance.now();
    requestAnimationFrame(tick);
  }

  function step(by) { play(false); show(current + by); }
  function jump(direction) {
    const wanted = direction > 0 ? events.find((e) => e.frame > current) : events.findLast((e) => e.frame < current);
    if (wanted) { play(false); show(wanted.frame); }
  }

  element("play").onclick = () => play(!playing);
  element("back").onclick = () => step(-1);
  element("forward").onclick = () => step(1);
  cameraCanvas.onclick = () => play(!playing);
  if (element("which")) element("which").onchange = (change) => showAt(Number(change.target.value), frames[current].t);
  if (element("next-event")) {
    element("previous-event").onclick = () => jump(-1);
    element("next-event").onclick = () => jump(1);
  }
  for (const id of ["show-found", "show-truth"]) if (element(id)) element(id).onchange = draw;
  for (const row of document.querySelectorAll(".jump")) {
    row.onclick = (click) => {
      click.preventDefault();
      const event = data.events.find((one) => String(one.object) === row.dataset.object);
      if (event) { play(false); choose(event.camera); show(event.frame); element("player").scrollIntoView({ block: "center" }); }
    };
  }
  // The frame of a camera that is nearest to a time.
  function showAt(number, t) {
    play(false); choose(number);
    let nearest = 0;
    for (let i = 1; i <= last; i++) if (Math.abs(frames[i].t - t) < Math.abs(frames[nearest].t - t)) nearest = i;
    show(nearest);
  }
  for (const strip of document.querySelectorAll("svg[data-camera]")) {
    strip.onclick = (click) => {
      const box = strip.getBoundingClientRect(), share = (click.clientX - box.left) / box.width;
      showAt(Number(strip.dataset.camera), Number(strip.dataset.from) + share * Number(strip.dataset.span));
      element("player").scrollIntoView({ block: "center" });
    };
  }
  for (const link of document.querySelectorAll("a[data-camera]")) {
    link.onclick = (click) => {
      click.preventDefault();
      showAt(Number(link.dataset.camera), Number(link.dataset.t));
      element("player").scrollIntoView({ block: "center" });
    };
  }
  function scrub(pointer) {
    const width = timeline.clientWidth, x = pointer.clientX - timeline.getBoundingClientRect().left;
    let nearest = 0;
    for (let i = 1; i <= last; i++) if (Math.abs(timeX(i, width) - x) < Math.abs(timeX(nearest, width) - x)) nearest = i;
    show(nearest);
  }
  timeline.onpointerdown = (pointer) => { play(false); timeline.setPointerCapture(pointer.pointerId); scrub(pointer); };
  timeline.onpointermove = (pointer) => { if (pointer.buttons) scrub(pointer); };
  addEventListener("keydown", (key) => {
    // A control that has the focus keeps its keys.
    if (key.ctrlKey || key.metaKey || key.altKey || ["SELECT", "INPUT"].includes(key.target.tagName)) return;
    const jumps = { ArrowLeft: () => step(key.shiftKey ? -10 : -1), ArrowRight: () => step(key.shiftKey ? 10 : 1),
      Home: () => step(-frames.length), End: () => step(frames.length), n: () => jump(1), p: () => jump(-1) };
    if (key.key === " ") { if (key.target.tagName !== "BUTTON") { key.preventDefault(); play(!playing); } return; }
    if (jumps[key.key]) { key.preventDefault(); jumps[key.key](); }
  });
  function openAtFragment() {
    const wanted = /^#(?:camera=(\d+)&)?frame=(\d+)$/.exec(location.hash);
    if (!wanted) { choose(data.open.camera); show(data.open.frame); return; }
    choose(Math.min(Math.max(Number(wanted[1] || 1) - 1, 0), cameras.length - 1));
    const index = frames.findIndex((frame) => frame.number >= Number(wanted[2]));
    show(index < 0 ? last : index);
  }
  addEventListener("hashchange", openAtFragment);
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  openAtFragment();
})();
