// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

function line(stream, level, message) {
  stream.write(`${new Date().toISOString()} ${level} ${message}\n`);
}

module.exports = {
  info: (message) => line(process.stdout, 'INFO', message),
  error: (message) => line(process.stderr, 'ERROR', message),
};
