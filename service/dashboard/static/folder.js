/** A folder as a tar archive, as tamis/client/packing.py packs one, so that the server reads it as a folder. */

/** @typedef {[string, File]} Member its path in the folder, and its content */

const BLOCK = 512;
const encoder = new TextEncoder();

/** What was dropped: the one archive, or a folder's files as one. @param {DataTransfer} transfer @returns {Promise<File>} */
export async function dropped(transfer) {
  // All are asked for at once: after the first pause there is nothing in the transfer any more.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const [first] = entries;
  if (!first) throw new Error("Drop a folder of images, or an archive.");
  if (entries.length === 1 && first.isFile) return content(first);
  /** @type {Member[]} */
  const members = [];
  if (entries.length > 1) for (const entry of entries) await gather(entry, entry.name, members);
  else await gather(first, "", members);
  return pack(entries.length > 1 ? "images" : first.name, members);
}

/** What was chosen by a field of folders. @param {File[]} files */
export function chosenFolder(files) {
  const [name] = files[0].webkitRelativePath.split("/");
  return pack(name, files.map((file) => [file.webkitRelativePath.slice(name.length + 1), file]));
}

async function gather(entry, path, members) {
  if (entry.isFile) {
    members.push([path, await content(entry)]);
    return;
  }
  const reader = entry.createReader();
  const read = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  // It tells a hundred at a time, and nothing at its end.
  for (let some = await read(); some.length; some = await read())
    for (const each of some) await gather(each, path ? `${path}/${each.name}` : each.name, members);
}

/** @returns {Promise<File>} */
function content(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** The files are not read: a part is, once it is sent. @param {string} name @param {Member[]} members */
function pack(name, members) {
  const shown = members.filter(([path]) => !path.split("/").some((part) => part.startsWith(".")));
  if (!shown.length) throw new Error(`${name} holds no files. Choose a folder of images, or an archive.`);
  const key = ([path]) => path.replaceAll("/", "\0");
  shown.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  const parts = extended("g", { "TAMIS.packed": "folder" });
  let modified = 0;
  for (const [path, file] of shown) {
    const long = {};
    if (encoder.encode(path).length > 100 || /[^ -~]/.test(path)) long.path = path;
    if (file.size >= 8 ** 11) long.size = file.size;
    if (Object.keys(long).length) parts.push(...extended("x", long));
    parts.push(header(path.replace(/[^ -~]/g, "?").slice(0, 100), file.size, "0"), file, padding(file.size));
    modified = Math.max(modified, file.lastModified);
  }
  parts.push(new Uint8Array(2 * BLOCK));
  // By its name, size and time the server knows it again.
  return new File(parts, `${name}.tar`, { lastModified: modified });
}

/** What a header has no room for. @param {string} type @param {Record<string, unknown>} told */
function extended(type, told) {
  const lines = Object.entries(told).map(([key, value]) => {
    const rest = encoder.encode(` ${key}=${value}\n`).length;
    let length = rest + 1;
    while (String(length).length + rest !== length) length += 1;
    return `${length} ${key}=${value}\n`;
  });
  const body = encoder.encode(lines.join(""));
  return [header("././@PaxHeader", body.length, type), body, padding(body.length)];
}

/** @param {number} size */
function padding(size) {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

/** @param {string} path @param {number} size @param {string} type */
function header(path, size, type) {
  const block = new Uint8Array(BLOCK);
  const octal = (value, digits) => value.toString(8).padStart(digits, "0");
  const put = (text, at) => block.set(encoder.encode(text), at);
  put(path, 0);
  put("0000644\0" + "0000000\0".repeat(2), 100);
  put(octal(size < 8 ** 11 ? size : 0, 11), 124);
  put(octal(0, 11), 136);
  put(" ".repeat(8), 148);
  put(type, 156);
  put("ustar\x0000", 257);
  put(`${octal(block.reduce((sum, byte) => sum + byte), 6)}\0`, 148);
  return block;
}
