// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');
const express = require('express');
const createKnex = require('knex');

const auth = require('./auth');
const faults = require('./faults');
const health = require('./health');
const incidents = require('./incidents');
const log = require('./log');
const { seedEmptyTables } = require('./seeds');
const knexfile = require('../knexfile');

const ROOT = path.resolve(__dirname, '..');

const settings = {
  host: process.env.HOST || undefined,
  httpPort: Number(process.env.PORT || 8080),
  httpsPort: Number(process.env.HTTPS_PORT || 6443),
  enableHttps: process.env.ENABLE_HTTPS === 'true',
  certificate: path.resolve(ROOT, process.env.SSL_CERT_PATH || 'backend/ssl/server.crt'),
  key: path.resolve(ROOT, process.env.SSL_KEY_PATH || 'backend/ssl/server.key'),
  jwtSecret: process.env.JWT_SECRET,
  // If each release applies its own migrations, set MIGRATE_ON_START=false.
  migrate: process.env.MIGRATE_ON_START !== 'false',
  // off | on (adds the routes below /api/v1/faults) | start (each start fails) | peer (a required service is down)
  faults: process.env.NEXUS_DEMO_FAULTS || 'off',
};

function accessLog(request, response, next) {
  const started = process.hrtime.bigint();
  response.on('finish', () => {
    const milliseconds = Number((process.hrtime.bigint() - started) / 1000000n);
    log.info(`${request.method} ${request.originalUrl} ${response.statusCode} ${milliseconds} ms`);
  });
  next();
}

function createApp(knex) {
  const app = express();
  app.disable('x-powered-by');
  app.use(accessLog);
  app.use(express.json());
  app.use('/api/v1/health', health(knex));
  app.use('/api/v1/auth', auth(knex, settings.jwtSecret));
  app.use('/api/v1/incidents', incidents(knex));
  if (settings.faults === 'on') {
    app.use('/api/v1/faults', faults());
  }
  app.use((request, response) => {
    response.status(404).json({ error: 'Not found' });
  });
  app.use((error, request, response, next) => {
    if (response.headersSent) {
      next(error);
      return;
    }
    const status = error.status ?? 500;
    if (status >= 500) {
      log.error(`${request.method} ${request.originalUrl}: ${error.stack}`);
    }
    response.status(status).json({ error: status >= 500 ? 'Internal server error' : error.message });
  });
  return app;
}

function listen(server, port, scheme) {
  server.on('error', (error) => {
    log.error(`Cannot serve ${scheme} on port ${port}: ${error.message}`);
    process.exit(1);
  });
  server.listen(port, settings.host, () => log.info(`Serving ${scheme} on port ${port}`));
}

function serve(app) {
  if (settings.enableHttps) {
    try {
      const credentials = { cert: fs.readFileSync(settings.certificate), key: fs.readFileSync(settings.key) };
      listen(https.createServer(credentials, app), settings.httpsPort, 'HTTPS');
    } catch {
      // As in the real service, the process continues without HTTPS if the certificate or its key cannot be read.
      log.info('HTTPS is not available, continuing with HTTP');
    }
  }
  listen(http.createServer(app), settings.httpPort, 'HTTP');
}

async function main() {
  if (!settings.jwtSecret) {
    throw new Error('JWT_SECRET is not set: refusing to start');
  }
  if (settings.faults === 'start') {
    throw new Error('NEXUS_DEMO_FAULTS=start: the start fails');
  }
  if (settings.faults === 'peer') {
    throw new Error('connect ECONNREFUSED 127.0.0.1:389: NEXUS_DEMO_FAULTS=peer');
  }
  // Always use this section. If NODE_ENV is not set, the knex command uses a different section and database.
  const knex = createKnex(knexfile.production);
  const [, applied] = settings.migrate ? await knex.migrate.latest() : [0, []];
  log.info(`Database ${knex.client.config.connection.filename}: ${applied.length} migrations applied`);
  await seedEmptyTables(knex);
  serve(createApp(knex));
}

// As in the real service, there is no handler for SIGTERM. Therefore, the WAL remains after every stop.
main().catch((error) => {
  log.error(error.stack);
  process.exit(1);
});
