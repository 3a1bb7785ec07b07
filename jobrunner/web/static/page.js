// The list is asked for every two seconds; the job that is looked at comes as a stream.
"use strict";

const base = document.body.dataset.base;
const connection = document.getElementById("connection");
let stream = null;

function cell(row, content) {
  const td = row.insertCell();
  td.append(content);
  return td;
}

function bar(job) {
  const span = document.createElement("span");
  const progress = document.createElement("progress");
  progress.max = 100;
  progress.value = job.progress;
  progress.setAttribute("aria-label", `${job.progress} %`);
  span.append(progress, ` ${job.progress_message ?? ""}`);
  return span;
}

function show(jobs) {
  const body = document.getElementById("jobs");
  body.replaceChildren();
  for (const job of jobs) {
    const row = body.insertRow();
    const button = document.createElement("button");
    button.textContent = job.job_id.slice(0, 12);
    button.addEventListener("click", () => watch(job.job_id));
    cell(row, button);
    cell(row, job.type);
    cell(row, job.status);
    cell(row, bar(job));
    cell(row, new Date(job.created_at).toLocaleTimeString());
  }
}

function watch(id) {
  stream?.close();
  const events = document.getElementById("events");
  document.getElementById("detail").hidden = false;
  document.getElementById("title").textContent = id;
  events.textContent = "";
  stream = new EventSource(`${base}jobs/${id}/stream`);
  for (const type of ["status", "progress", "log", "output", "gap", "done"]) {
    stream.addEventListener(type, (event) => {
      const data = JSON.parse(event.data);
      const text = data.text ?? JSON.stringify(data);
      events.append(type === "output" ? (data.json ? `${text}\n` : text) : `[${data.seq} ${type}] ${text}\n`);
      if (type === "done") stream.close();
    });
  }
}

async function refresh() {
  try {
    const response = await fetch(`${base}jobs`);
    if (!response.ok) throw new Error(String(response.status));
    show((await response.json()).jobs);
    connection.textContent = "connected";
  } catch (error) {
    connection.textContent = `not connected: ${error.message}`;
  }
  setTimeout(refresh, 2000);
}

refresh();
