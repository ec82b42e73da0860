// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

exports.up = (knex) =>
  knex.schema.alterTable('incidents', (table) => {
    table.integer('asset_id').references('id').inTable('assets');
  });

exports.down = (knex) =>
  knex.schema.alterTable('incidents', (table) => {
    table.dropColumn('asset_id');
  });
