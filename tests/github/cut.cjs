// Extracts the operations on issues and their comments from GitHub's description of its API. Usage: node cut.cjs FOLDER
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const PATHS = ["/repos/{owner}/{repo}/issues", "/repos/{owner}/{repo}/issues/{issue_number}/comments"];
const generated = path.join(path.dirname(require.resolve("@octokit/openapi")), "generated");
const oldest = fs
  .readdirSync(generated)
  .filter((name) => /^ghes-.*\.deref\.json$/.test(name))
  .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))[0];

function cut(from, to, base) {
  const { openapi, info, paths } = JSON.parse(fs.readFileSync(path.join(generated, from)));
  const kept = Object.fromEntries(PATHS.map((each) => [each, paths[each]]));
  const part = { openapi, info, servers: [{ url: base }], paths: kept };
  fs.writeFileSync(path.join(process.argv[2], to), JSON.stringify(part));
}

cut("api.github.com.deref.json", "api.github.com.json", "/");
cut(oldest, "enterprise-server.json", "/api/v3");
