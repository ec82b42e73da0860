// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

exports.up = (knex) =>
  knex.schema.createTable('changes', (table) => {
    table.increments('id');
    table.string('title', 200).notNullable();
    table.string('risk', 16).notNullable().defaultTo('low');
    table.string('status', 16).notNullable().defaultTo('draft').index();
    table.integer('requested_by').references('id').inTable('users');
    table.string('planned_at', 24).notNullable();
  });

exports.down = (knex) => knex.schema.dropTable('changes');
